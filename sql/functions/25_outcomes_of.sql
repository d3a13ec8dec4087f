-- The outcomes of the given recipients according to their facts: those of their latest attempts, in the order of
-- attempts_of(). For recounts. apply_facts() has its own copy, in which both sides of a change share one sort.
CREATE OR REPLACE FUNCTION outcomes_of(p_batch_keys bigint[], p_recipient_nos integer[])
RETURNS TABLE (
    batch_key bigint, recipient_no integer, state text, attempts integer, arrival_id bigint, source text,
    duration_seconds integer, results jsonb
)
LANGUAGE sql STABLE ROWS 500
AS $$
SELECT DISTINCT ON (a.batch_key, a.recipient_no)
       a.batch_key, a.recipient_no, a.state, (count(*) OVER (PARTITION BY a.batch_key, a.recipient_no))::integer,
       a.arrival_id, a.source, a.duration_seconds, a.results
FROM attempts_of(p_batch_keys, p_recipient_nos, NULL) AS a
ORDER BY a.batch_key, a.recipient_no, a.attempt_order DESC, a.called_at DESC NULLS LAST, a.conversation_id DESC
$$;
