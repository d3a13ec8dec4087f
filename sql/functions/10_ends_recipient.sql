-- Whether a final fact proves that no further attempt follows: the call was completed, or a webhook's retry block says so.
-- A webhook without a retry block, as for some unanswered calls, and a healed call only imply it.
CREATE OR REPLACE FUNCTION ends_recipient(p_source text, p_status text, p_attempt_number integer) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
SELECT p_status = 'completed' OR p_source = 'webhook' AND p_attempt_number IS NOT NULL
$$;
