-- One recipient as every reader sees it. THE definition of the fields of a recipient's row, from its outcome and the fact
-- that decided it. Written to be inlined: look-ups by key, whatever the statistics say. An erased person shows only as
-- erased.
CREATE OR REPLACE FUNCTION show_recipient(p_batch_key bigint, p_recipient_no integer)
RETURNS TABLE (
    recipient integer, phone text, parameters jsonb, state text, status text, is_final boolean, attempts integer,
    duration_seconds integer, results jsonb, failure_reason text, next_retry_at timestamptz,
    last_attempt_at timestamptz, conversation_id text, source text, version integer, event_id text, method text,
    known_at timestamptz
)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT k.recipient_no, CASE WHEN o.state IS DISTINCT FROM 'erased' THEN r.phone END,
       coalesce(CASE WHEN o.state IS DISTINCT FROM 'erased' THEN r.parameters END, '{}'),
       recipient_state(o.state, r.withdrawn_at), f.status,
       coalesce(f.is_final, false), coalesce(o.attempts, 0), f.duration_seconds,
       CASE WHEN o.state IS DISTINCT FROM 'erased' THEN f.results END, f.failure_reason, plausible_time(f.next_retry_at),
       coalesce(plausible_time(f.started_at), plausible_time(f.ended_at), plausible_time(f.occurred_at)), f.conversation_id, f.source, coalesce(o.version, 0),
       f.event_id, f.method, f.recorded_at
FROM (SELECT p_batch_key AS batch_key, p_recipient_no AS recipient_no) AS k
LEFT JOIN LATERAL (
    SELECT * FROM recipients
    WHERE recipients.batch_key = k.batch_key AND recipients.recipient_no = k.recipient_no OFFSET 0
) AS r ON true
LEFT JOIN LATERAL (
    SELECT * FROM outcomes WHERE outcomes.batch_key = k.batch_key AND outcomes.recipient_no = k.recipient_no OFFSET 0
) AS o ON true
LEFT JOIN LATERAL (
    SELECT * FROM facts
    WHERE facts.batch_key = k.batch_key AND facts.recipient_no = k.recipient_no AND facts.arrival_id = o.arrival_id
    OFFSET 0
) AS f ON true
$$;
