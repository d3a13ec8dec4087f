-- The state of a recipient from that of its outcome, which is null before the first call: withdrawn, or else in progress.
CREATE OR REPLACE FUNCTION recipient_state(p_outcome_state text, p_withdrawn_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
SELECT coalesce(p_outcome_state, CASE WHEN p_withdrawn_at IS NULL THEN 'in_progress' ELSE 'withdrawn' END)
$$;
