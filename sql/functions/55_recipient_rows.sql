-- Recipients of a batch by number, after a given one up to another, each with what decided its outcome: the rows of
-- exports, in the order and with the keys of the list over HTTP. Plain SQL without settings of its own, so that the planner
-- inlines it and rows stream. Each table repeats the range, because the planner does not derive it from a join.
-- p_filters: see meets_filters().
-- Dropped first, because replacing cannot change the columns, and an earlier version took a state.
DROP FUNCTION IF EXISTS recipient_rows(bigint, integer, integer, text);
DROP FUNCTION IF EXISTS recipient_rows(bigint, integer, integer, jsonb);
CREATE OR REPLACE FUNCTION recipient_rows(p_batch_key bigint, p_after integer, p_until integer, p_filters jsonb)
RETURNS TABLE (
    batch_id bigint, recipient integer, phone text, parameters jsonb, state text, status text, is_final boolean,
    attempts integer, duration_seconds integer, results jsonb, failure_reason text, next_retry_at timestamptz,
    last_attempt_at timestamptz, conversation_id text, source text, version integer, event_id text, method text,
    known_at timestamptz, from_phone text, trace_id text, goal_met boolean, callbacks jsonb
)
LANGUAGE sql STABLE ROWS 10000
AS $$
SELECT b.batch_id, r.recipient_no, r.phone, r.parameters,
       recipient_state(o.state, r.withdrawn_at), f.status,
       coalesce(f.is_final, false), coalesce(o.attempts, 0), f.duration_seconds, f.results, f.failure_reason,
       plausible_time(f.next_retry_at), coalesce(plausible_time(f.started_at), plausible_time(f.ended_at), plausible_time(f.occurred_at)), f.conversation_id, f.source,
       coalesce(o.version, 0), f.event_id, f.method, f.recorded_at, f.from_phone, f.trace_id,
       shown_goal(g.rule, f.status, f.results), show_callbacks(p_batch_key, r.recipient_no)
FROM batches AS b
JOIN recipients AS r
    ON r.batch_key = p_batch_key AND r.recipient_no > p_after AND r.recipient_no <= p_until
LEFT JOIN outcomes AS o
    ON o.batch_key = p_batch_key AND o.recipient_no > p_after AND o.recipient_no <= p_until
   AND o.recipient_no = r.recipient_no
LEFT JOIN facts AS f
    ON f.batch_key = p_batch_key AND f.recipient_no > p_after AND f.recipient_no <= p_until
   AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
LEFT JOIN batch_goals AS g ON g.batch_key = p_batch_key
CROSS JOIN meets_filters(
    p_filters, recipient_state(o.state, r.withdrawn_at), f.status, f.source, coalesce(o.attempts, 0), o.changed_at,
    f.failure_reason, r.phone, r.parameters, f.results)
WHERE b.batch_key = p_batch_key
ORDER BY r.recipient_no
$$;
