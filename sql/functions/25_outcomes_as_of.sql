-- The outcomes of the given recipients as they were known at a time: outcomes_of() over the facts of that time.
CREATE OR REPLACE FUNCTION outcomes_as_of(p_batch_keys bigint[], p_recipient_nos integer[], p_as_of timestamptz)
RETURNS TABLE (batch_key bigint, recipient_no integer, state text, attempts integer, arrival_id bigint)
LANGUAGE sql STABLE ROWS 500
AS $$
SELECT DISTINCT ON (a.batch_key, a.recipient_no)
       a.batch_key, a.recipient_no, a.state, (count(*) OVER (PARTITION BY a.batch_key, a.recipient_no))::integer,
       a.arrival_id
FROM attempts_as_of(p_batch_keys, p_recipient_nos, p_as_of) AS a
ORDER BY a.batch_key, a.recipient_no, a.attempt_order DESC, a.called_at DESC NULLS LAST, a.conversation_id DESC
$$;
