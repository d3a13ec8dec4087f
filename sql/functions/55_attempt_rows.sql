-- The attempts of a batch's recipients, after a given number up to another: for each only the fact that counts for it.
-- attempt is its place among all the recipient's attempts, from 1. p_filters: see meets_filters(); they are about the
-- attempt itself. Sorts its result, so ask for bounded ranges.
-- Dropped first, because replacing cannot change the columns. An earlier version took no filters.
DROP FUNCTION IF EXISTS attempt_rows(bigint, integer, integer);
DROP FUNCTION IF EXISTS attempt_rows(bigint, integer, integer, jsonb);
CREATE OR REPLACE FUNCTION attempt_rows(p_batch_key bigint, p_after integer, p_until integer, p_filters jsonb DEFAULT NULL)
RETURNS TABLE (
    batch_id bigint, recipient integer, attempt integer, phone text, attempt_number integer, max_attempts integer,
    status text, is_final boolean, started_at timestamptz, ended_at timestamptz, duration_seconds integer,
    failure_reason text, next_retry_at timestamptz, results jsonb, conversation_id text, source text, method text,
    event_id text, occurred_at timestamptz, known_at timestamptz, from_phone text, trace_id text
)
LANGUAGE sql STABLE ROWS 10000
AS $$
SELECT n.batch_id, n.recipient_no, n.attempt, n.phone, n.attempt_number, n.max_attempts, n.status, n.is_final,
       n.started_at, n.ended_at, n.duration_seconds, n.failure_reason, n.next_retry_at, n.results, n.conversation_id,
       n.source, n.method, n.event_id, n.occurred_at, n.recorded_at, n.from_phone, n.trace_id
FROM (
    SELECT (SELECT batch_id FROM batches WHERE batch_key = p_batch_key) AS batch_id, a.recipient_no,
           (row_number() OVER (PARTITION BY a.recipient_no
                               ORDER BY a.attempt_order, a.called_at NULLS FIRST, a.conversation_id))::integer AS attempt,
           r.phone, r.parameters, a.attempt_number, f.max_attempts, a.status, a.is_final,
           plausible_time(f.started_at) AS started_at, plausible_time(a.ended_at) AS ended_at, a.duration_seconds,
           a.failure_reason, plausible_time(a.next_retry_at) AS next_retry_at, a.results, a.conversation_id, a.source, a.method,
           a.event_id, plausible_time(f.occurred_at) AS occurred_at, f.recorded_at, a.from_phone, a.trace_id
    FROM attempts_of(
        array_fill(p_batch_key, ARRAY[p_until - p_after]),
        (SELECT array_agg(n) FROM generate_series(p_after + 1, p_until) AS n), NULL
    ) AS a
    JOIN facts AS f
        ON f.batch_key = p_batch_key AND f.recipient_no > p_after AND f.recipient_no <= p_until
       AND f.recipient_no = a.recipient_no AND f.arrival_id = a.arrival_id
    JOIN recipients AS r
        ON r.batch_key = p_batch_key AND r.recipient_no > p_after AND r.recipient_no <= p_until
       AND r.recipient_no = a.recipient_no
) AS n
CROSS JOIN meets_filters(
    p_filters, NULL, n.status, n.source, NULL, n.recorded_at, n.failure_reason, n.phone, n.parameters, n.results)
ORDER BY 2, 3
$$;
