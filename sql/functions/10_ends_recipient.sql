-- Whether a final fact proves that no further attempt follows: it was completed, or a webhook's retry block says so. A
-- webhook without one, as those of unanswered calls may be, and a healed call do not say it: there it is only inferred.
CREATE OR REPLACE FUNCTION ends_recipient(p_source text, p_status text, p_attempt_number integer) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
SELECT p_status = 'completed' OR p_source = 'webhook' AND p_attempt_number IS NOT NULL
$$;
