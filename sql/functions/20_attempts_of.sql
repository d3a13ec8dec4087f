-- The attempts of the given recipients, one row each. THE definition of which fact about an attempt wins, when two facts
-- are about the same attempt, and which attempt is the latest.
--
-- 1. Same attempt: same conversation and attempt number. If the provider gave no number, the second in which the call
--    began takes its place. Such a fact is dropped when a numbered one (for a healed fact, any from a webhook) of the
--    same conversation began within two seconds of it; or when either has no start time, unless the other was sent
--    before this call began.
-- 2. Which fact wins: the one that the provider sent later (occurred_at); then a webhook before a healed one, because it
--    carries more; then how far the call got; then one with results, and so a call's details before its entry in the list;
--    then every other field in turn. Only content decides, never arrival. If the winner says completed and has no results,
--    another fact of the same call that agrees with it and has some stands in for it, the first in this order: results
--    that are known are never lost.
-- 3. Which attempt is later (attempt_order, ascending): the provider's number; an attempt without one comes right after the highest
--    number that began before it. Ties go by time, then by conversation.
--
-- p_without leaves facts out: with the facts just added, the result is the attempts as they were before.
--
-- from_phone is that of the winning fact, else of another fact of the attempt: a healed one has none.
--
-- Dropped first, because replacing cannot change the columns.
--
-- The same text creates a second function, attempts_as_of(): the attempts as they were known at p_as_of, from the facts of
-- that time. Every event runs the first one, so it must not pay for this; and the order must be written only once.
DO $do$
DECLARE
    v_returned CONSTANT text := $returned$
RETURNS TABLE (
    batch_key bigint, recipient_no integer, arrival_id bigint, event_id text, conversation_id text,
    attempt_number integer, attempt_order numeric, status text, is_final boolean, state text,
    next_retry_at timestamptz, called_at timestamptz, ended_at timestamptz, duration_seconds integer,
    failure_reason text, results jsonb, source text, method text, from_phone text, trace_id text
)
LANGUAGE sql STABLE ROWS 500
$returned$;
    v_query text := $query$
WITH winners AS (
    SELECT DISTINCT ON (f.batch_key, f.recipient_no, f.conversation_id, f.attempt_number, k.second)
           f.*, coalesce(f.started_at, f.ended_at, f.occurred_at) AS called_at, k.second
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    -- OFFSET 0 keeps this a look-up by key, whatever the statistics said when the plan was made.
    CROSS JOIN LATERAL (
        SELECT *
        FROM {facts} AS facts
        WHERE facts.batch_key = t.batch_key AND facts.recipient_no = t.recipient_no
        OFFSET 0
    ) AS f
    CROSS JOIN LATERAL (
        SELECT CASE WHEN f.attempt_number IS NULL THEN date_trunc('second', f.started_at, 'UTC') END AS second
    ) AS k
    WHERE ({without} IS NULL OR f.arrival_id <> ALL ({without}))
      AND (f.attempt_number IS NOT NULL OR NOT EXISTS (
              SELECT FROM {facts} AS n
              WHERE n.batch_key = f.batch_key AND n.recipient_no = f.recipient_no
                AND n.conversation_id = f.conversation_id
                AND (n.attempt_number IS NOT NULL OR (f.source = 'healed' AND n.source = 'webhook'))
                AND ({without} IS NULL OR n.arrival_id <> ALL ({without}))
                AND coalesce(n.started_at BETWEEN f.started_at - interval '2 s' AND f.started_at + interval '2 s',
                             f.started_at <= n.occurred_at + interval '2 s', true)))
    ORDER BY f.batch_key, f.recipient_no, f.conversation_id, f.attempt_number, k.second, {order}
)
SELECT w.batch_key, w.recipient_no, {shown arrival_id}, {shown event_id}, w.conversation_id, {shown attempt_number},
       coalesce(w.attempt_number, 0.5 + coalesce((
           SELECT max(n.attempt_number)
           FROM {facts} AS n
           WHERE n.batch_key = w.batch_key AND n.recipient_no = w.recipient_no
             AND coalesce(n.started_at, n.ended_at, n.occurred_at, '-infinity') <= coalesce(w.called_at, '-infinity')
             AND ({without} IS NULL OR n.arrival_id <> ALL ({without}))), 0)),
       w.status, w.is_final, CASE WHEN w.is_final THEN w.status ELSE 'pending_retry' END,
       {shown next_retry_at}, {shown called_at}, {shown ended_at}, {shown duration_seconds}, {shown failure_reason},
       {shown results}, {shown source}, {shown method},
       coalesce(w.from_phone, (
           SELECT max(n.from_phone)
           FROM {facts} AS n
           WHERE n.batch_key = w.batch_key AND n.recipient_no = w.recipient_no AND n.conversation_id = w.conversation_id
             AND n.attempt_number IS NOT DISTINCT FROM w.attempt_number
             AND (n.attempt_number IS NOT NULL OR date_trunc('second', n.started_at, 'UTC') IS NOT DISTINCT FROM w.second)
             AND ({without} IS NULL OR n.arrival_id <> ALL ({without})))),
       w.trace_id
FROM winners AS w
LEFT JOIN LATERAL (
    SELECT f.*, coalesce(f.started_at, f.ended_at, f.occurred_at) AS called_at
    FROM {facts} AS f
    WHERE w.status = 'completed' AND NOT knows_results(w.results)
      AND f.batch_key = w.batch_key AND f.recipient_no = w.recipient_no AND f.conversation_id = w.conversation_id
      AND f.status = w.status AND f.is_final = w.is_final AND knows_results(f.results)
      AND ({without} IS NULL OR f.arrival_id <> ALL ({without}))
      AND CASE WHEN f.attempt_number IS NOT NULL THEN f.attempt_number IS NOT DISTINCT FROM w.attempt_number
               WHEN w.attempt_number IS NOT NULL OR (f.source = 'healed' AND w.source = 'webhook')
                   THEN w.started_at BETWEEN f.started_at - interval '2 s' AND f.started_at + interval '2 s'
               ELSE date_trunc('second', f.started_at, 'UTC')
                    IS NOT DISTINCT FROM date_trunc('second', w.started_at, 'UTC') END
    ORDER BY {order}
    LIMIT 1
) AS r ON true
$query$;
    v_order CONSTANT text := $order$
             f.occurred_at DESC NULLS LAST, f.source DESC, status_rank(f.status) DESC, f.is_final DESC,
             knows_results(f.results) DESC, f.duration_seconds DESC NULLS LAST, f.started_at DESC NULLS LAST,
             f.ended_at DESC NULLS LAST, f.next_retry_at DESC NULLS LAST, f.max_attempts DESC NULLS LAST,
             f.failure_reason DESC NULLS LAST, f.trace_id IS NOT NULL DESC, f.event_id DESC, f.results DESC, f.method DESC,
             f.from_phone DESC NULLS LAST, f.trace_id DESC NULLS LAST
$order$;
    v_past CONSTANT text := '(SELECT * FROM known_facts AS k WHERE k.recorded_at <= p_as_of AND k.withdrawn_at > p_as_of)';
BEGIN
    DROP FUNCTION IF EXISTS attempts_of(bigint[], integer[], bigint[]);
    DROP FUNCTION IF EXISTS attempts_as_of(bigint[], integer[], timestamptz);
    v_query := replace(v_query, '{order}', v_order);
    v_query := regexp_replace(v_query, '[{]shown (\w+)[}]', 'CASE WHEN r.arrival_id IS NULL THEN w.\1 ELSE r.\1 END', 'g');
    EXECUTE 'CREATE OR REPLACE FUNCTION attempts_of(p_batch_keys bigint[], p_recipient_nos integer[], p_without bigint[])'
        || v_returned || 'AS ' || quote_literal(replace(replace(v_query, '{facts}', 'facts'), '{without}', 'p_without'));
    EXECUTE 'CREATE OR REPLACE FUNCTION attempts_as_of(p_batch_keys bigint[], p_recipient_nos integer[], p_as_of timestamptz)'
        || v_returned || 'AS ' || quote_literal(replace(replace(v_query, '{facts}', v_past), '{without}', 'NULL::bigint[]'));
END
$do$;
