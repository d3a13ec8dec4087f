-- The outcomes of the given recipients as their facts have them: those of their latest attempts, by the order that
-- attempts_of() sets. For recounts; apply_facts() has the same on its way, where both sides of a change share one sort.
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
