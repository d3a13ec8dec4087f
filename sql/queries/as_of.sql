-- name: find_batch_as_of(batch_id, as_of)^
-- A batch and its number of recipients at a time, null if it was not known here yet. known_since: when it became known.
SELECT b.batch_key, :as_of::timestamptz > clock_timestamp() AS is_future, v.recipient_count,
       (SELECT f.changed_at FROM batch_versions AS f
        WHERE f.batch_key = b.batch_key AND f.batch_id IS NOT NULL ORDER BY f.changed_at LIMIT 1) AS known_since
FROM batches AS b
LEFT JOIN LATERAL (
    SELECT * FROM batch_versions WHERE batch_versions.batch_key = b.batch_key AND changed_at <= :as_of
    ORDER BY changed_at DESC LIMIT 1
) AS v ON v.batch_id IS NOT NULL
WHERE b.batch_id = :batch_id;

-- name: find_last_event_as_of(batch_key, after, limit, as_of, since)$
-- When the last event of some recipients that was known at a time was received, if that may be later than :since. An hour
-- allows for a difference between the clocks of service and database.
SELECT max(e.received_at)
FROM known_facts AS f
CROSS JOIN LATERAL find_arrival(f.event_id, f.occurred_at, f.arrival_id) AS e
WHERE f.batch_key = :batch_key AND f.recipient_no > :after AND f.recipient_no <= :after::integer + :limit::integer
  AND f.recorded_at <= :as_of
  AND f.recorded_at > coalesce(:since::timestamptz, '-infinity') - interval '1 hour';

-- name: get_counts_as_of(time_zone, names, values, step, hours, as_of, batch_key)^
-- Like get_batch_counts, as of a time: from the recount as of then, in the same transaction.
WITH recounted AS MATERIALIZED (
    SELECT counter, a COLLATE "C" AS a, b COLLATE "C" AS b, c, recipients, talked, talk_seconds FROM list_recounted()
)
SELECT v.batch_id AS id, v.name, b.agent_id, v.status, plausible_time(v.created_at) AS created_at,
       coalesce(v.total_recipients, v.recipient_count - v.withdrawn_count) AS total_recipients, :as_of::timestamptz AS as_of,
       shown_verdict(r.verdict, p.spilled IS NOT NULL) AS verdict, p.spilled, h.verdict_since, h.compared_at AS last_reconciled_at,
       CASE WHEN r.batch_key IS NOT NULL THEN
           json_build_object('reasons', r.reasons, 'differences', r.differences, 'inconsistencies', r.inconsistencies,
                             'healed', r.healed) END AS reconciliation,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT a AS state, b::integer AS attempts, c AS source, recipients, talked, talk_seconds
              FROM recounted WHERE counter = 'outcome_counts') AS c) AS outcomes,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT extract(isodow FROM a::timestamptz AT TIME ZONE :time_zone)::integer AS weekday,
                     extract(hour FROM a::timestamptz AT TIME ZONE :time_zone)::integer AS hour, b AS status,
                     sum(recipients) AS attempts
              FROM recounted WHERE counter = 'attempt_counts' GROUP BY 1, 2, 3) AS c) AS attempts,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT date_trunc(:step, t.at, :time_zone) AS start, sum(t.attempts)::bigint AS attempts,
                     sum(t.connects)::bigint AS connects, sum(t.expected)::bigint AS expected
              FROM (SELECT a::timestamptz AS at, recipients AS attempts,
                           CASE b WHEN 'completed' THEN recipients ELSE 0 END AS connects, 0 AS expected
                    FROM recounted WHERE counter = 'attempt_counts'
                    UNION ALL
                    SELECT a::timestamptz, 0, 0, recipients FROM recounted WHERE counter = 'retry_counts') AS t
              WHERE plausible_time(t.at) IS NOT NULL
              GROUP BY 1 ORDER BY 1 DESC LIMIT :hours) AS c) AS timeline,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT a::integer AS from_seconds, recipients
              FROM recounted WHERE counter = 'talk_time_counts') AS c) AS talk_times,
       coalesce((SELECT recipients FROM recounted WHERE counter = 'contact_counts'), 0) AS contacted,
       (SELECT row_to_json(c)
        FROM (SELECT coalesce(sum(t.recipients) FILTER (WHERE t.due_at < n.minute), 0)::bigint AS overdue,
                     coalesce(sum(t.recipients) FILTER (
                         WHERE t.due_at >= n.minute AND t.due_at < n.minute + interval '1 hour'), 0)::bigint AS due_within_hour,
                     coalesce(sum(t.recipients) FILTER (
                         WHERE t.due_at >= n.minute + interval '1 hour' AND isfinite(t.due_at)), 0)::bigint AS due_later,
                     coalesce(sum(t.recipients) FILTER (WHERE NOT isfinite(t.due_at)), 0)::bigint AS without_time,
                     min(t.due_at) FILTER (WHERE isfinite(t.due_at)) AS earliest_at,
                     min(t.due_at) FILTER (WHERE t.due_at >= n.minute AND isfinite(t.due_at)) AS next_at
              FROM (SELECT retry_slot(:as_of) AS minute) AS n
              LEFT JOIN (SELECT a::timestamptz AS due_at, recipients
                         FROM recounted WHERE counter = 'retry_counts') AS t ON true) AS c) AS retries,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT n.a AS name, n.recipients AS total, t.b AS value, t.recipients
              FROM (SELECT a, recipients FROM recounted WHERE counter = 'result_totals' ORDER BY a LIMIT :names) AS n
              JOIN (SELECT k.a, k.b, k.recipients, row_number() OVER (
                        PARTITION BY k.a ORDER BY length(ltrim(k.recipients::bit(64)::text, '0')) DESC, k.b) AS nth
                    FROM recounted AS k WHERE k.counter = 'result_counts') AS t ON t.a = n.a AND t.nth <= :values
              ORDER BY n.a, t.recipients DESC, t.b) AS c) AS results,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT n.a AS name, n.recipients AS total_attempts, n.talked AS total_connects, t.b AS value,
                     t.recipients AS attempts, t.talked AS connects
              FROM (SELECT * FROM recounted AS k WHERE k.counter = 'call_counts' AND k.b = '') AS n
              JOIN (SELECT k.*, row_number() OVER (
                        PARTITION BY k.a ORDER BY length(ltrim(k.recipients::bit(64)::text, '0')) DESC, k.b) AS nth
                    FROM recounted AS k WHERE k.counter = 'call_counts' AND k.b <> '') AS t
                  ON t.a = n.a AND t.nth <= :values
              ORDER BY n.a, t.recipients DESC, t.b) AS c) AS calls,
       (SELECT json_build_object('rule', g.rule, 'set_at', g.set_at, 'recipients', coalesce(
                   (SELECT recipients FROM recounted WHERE counter = 'goal_counts'), 0))
        FROM find_goal_as_of(b.batch_key, :as_of) AS g) AS goal,
       b.campaign_key AS campaign_id
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT * FROM batch_versions WHERE batch_versions.batch_key = b.batch_key AND changed_at <= :as_of
    ORDER BY changed_at DESC LIMIT 1
) AS v
LEFT JOIN LATERAL (
    SELECT * FROM verdict_history WHERE verdict_history.batch_key = b.batch_key AND recorded_at <= :as_of
    ORDER BY recorded_at DESC LIMIT 1
) AS h ON true
LEFT JOIN reconciliations AS r ON r.batch_key = h.batch_key AND r.reconciliation_id = h.reconciliation_id
-- What has waited since then may belong to that time.
LEFT JOIN LATERAL (
    SELECT row_to_json(w) AS spilled FROM find_spilled() AS w WHERE coalesce(w.since <= :as_of, true)
) AS p ON true
WHERE b.batch_key = :batch_key;

-- name: list_campaign_as_of(campaign_id, as_of)
-- The batches of a campaign as they were at a time, its test batch first.
SELECT b.campaign_role AS role, b.batch_key AS upload_id, v.batch_id, v.upload_state AS state,
       coalesce(v.total_recipients, v.recipient_count - v.withdrawn_count) AS total_recipients, v.recipient_count
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT * FROM batch_versions WHERE batch_versions.batch_key = b.batch_key AND changed_at <= :as_of
    ORDER BY changed_at DESC LIMIT 1
) AS v
WHERE b.campaign_key = :campaign_id
ORDER BY b.campaign_role DESC;

-- name: count_states_as_of(batch_key, after, limit, as_of)
-- The number of some recipients in each state at a time.
SELECT o.state, count(*) AS recipients
FROM (SELECT array_agg(:batch_key::bigint) AS keys, array_agg(n) AS nos
      FROM generate_series(:after::integer + 1, :after::integer + :limit::integer) AS n) AS t
CROSS JOIN LATERAL outcomes_as_of(t.keys, t.nos, :as_of) AS o
GROUP BY o.state;

-- name: list_recipients_as_of(batch_id, after, until, filters, limit, as_of)
-- Like list_recipients, as of a time, but without versions, which are not kept. A person erased since then shows only as
-- erased.
WITH page AS MATERIALIZED (
    SELECT r.batch_key, r.recipient_no, r.withdrawn_at, b.batch_id, e.is_erased,
           (SELECT g.rule FROM find_goal_as_of(b.batch_key, :as_of) AS g) AS goal,
           CASE WHEN NOT e.is_erased THEN r.phone END AS phone,
           CASE WHEN e.is_erased OR r.parameters_known_at > :as_of THEN '{}' ELSE r.parameters END AS parameters
    FROM batches AS b
    CROSS JOIN LATERAL (
        SELECT * FROM recipients
        WHERE recipients.batch_key = b.batch_key AND recipients.recipient_no > :after
          AND recipients.recipient_no <= :until
        OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM erased_recipients AS k
                       WHERE k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no OFFSET 0) AS is_erased
    ) AS e
    WHERE b.batch_id = :batch_id
), then_known AS MATERIALIZED (
    SELECT o.*
    FROM (SELECT array_agg(batch_key) AS keys, array_agg(recipient_no) AS nos FROM page) AS p
    CROSS JOIN LATERAL outcomes_as_of(p.keys, p.nos, :as_of) AS o
), shown AS (
    SELECT p.*, o.attempts, o.arrival_id,
           coalesce(CASE WHEN p.is_erased THEN 'erased' END, o.state, CASE WHEN p.withdrawn_at <= :as_of THEN 'withdrawn' ELSE 'in_progress' END) AS state
    FROM page AS p
    LEFT JOIN then_known AS o ON o.recipient_no = p.recipient_no
)
SELECT s.recipient_no AS recipient, s.batch_id, s.phone, s.parameters, s.state, f.status,
       coalesce(f.is_final, false) AS is_final, coalesce(s.attempts, 0) AS attempts, f.duration_seconds, r.results,
       f.failure_reason, plausible_time(f.next_retry_at) AS next_retry_at, coalesce(plausible_time(f.started_at), plausible_time(f.ended_at), plausible_time(f.occurred_at)) AS last_attempt_at,
       f.conversation_id, f.source, NULL::integer AS version, f.event_id, f.method, f.recorded_at AS known_at,
       f.from_phone, f.trace_id, shown_goal(s.goal, f.status, r.results) AS goal_met, NULL::jsonb AS callbacks
FROM shown AS s
LEFT JOIN LATERAL (
    SELECT * FROM known_facts AS k
    WHERE k.batch_key = s.batch_key AND k.recipient_no = s.recipient_no AND k.arrival_id = s.arrival_id
      AND k.recorded_at <= :as_of AND k.withdrawn_at > :as_of
    OFFSET 0
) AS f ON true
CROSS JOIN LATERAL (SELECT CASE WHEN NOT s.is_erased THEN f.results END AS results) AS r
CROSS JOIN meets_filters(
    :filters::jsonb, s.state, f.status, f.source, coalesce(s.attempts, 0), NULL, f.failure_reason, s.phone, s.parameters,
    r.results)
ORDER BY s.recipient_no
LIMIT :limit;

-- name: list_recipient_facts_as_of(batch_id, recipient_no, as_of)
-- Like list_recipient_facts, as of a time.
SELECT f.event_id, f.source, f.method, f.conversation_id, f.attempt_number, f.status, f.is_final,
       plausible_time(f.started_at) AS started_at, plausible_time(f.ended_at) AS ended_at, f.duration_seconds,
       f.failure_reason, plausible_time(f.next_retry_at) AS next_retry_at, f.results, plausible_time(f.occurred_at) AS occurred_at, f.recorded_at AS known_at,
       f.from_phone, f.trace_id,
       a.arrival_id IS NOT NULL AS won, o.arrival_id IS NOT NULL AS decided
FROM batches AS b
JOIN known_facts AS f ON f.batch_key = b.batch_key AND f.recipient_no = :recipient_no
    AND f.recorded_at <= :as_of AND f.withdrawn_at > :as_of
LEFT JOIN attempts_as_of(
    ARRAY[(SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id)], ARRAY[:recipient_no::integer], :as_of
) AS a ON a.arrival_id = f.arrival_id
LEFT JOIN outcomes_as_of(
    ARRAY[(SELECT k.batch_key FROM batches AS k WHERE k.batch_id = :batch_id)], ARRAY[:recipient_no::integer], :as_of
) AS o ON o.arrival_id = f.arrival_id
WHERE b.batch_id = :batch_id
ORDER BY coalesce(f.started_at, f.ended_at, f.occurred_at), f.attempt_number NULLS LAST, f.recorded_at, f.arrival_id;
