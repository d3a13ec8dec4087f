-- name: list_batches_made(agent_id, start, until, most)
-- At most :most batches that the provider created in a period, of one agent or of all.
(SELECT batch_key FROM batches
 WHERE :agent_id::bigint IS NULL AND batch_id IS NOT NULL
   AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
 LIMIT :most)
UNION ALL
(SELECT batch_key FROM batches
 WHERE agent_id = :agent_id AND batch_id IS NOT NULL
   AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
 LIMIT :most);

-- name: list_batches_of_campaign(batch_id, campaign_id, role)
-- One batch, or those of a campaign that the provider has: all, or the one with a role.
SELECT batch_key FROM batches WHERE batch_id = :batch_id
UNION ALL
SELECT batch_key FROM batches
WHERE campaign_key = :campaign_id AND batch_id IS NOT NULL AND (:role::text IS NULL OR campaign_role = :role);

-- name: list_batch_ids(batch_keys)
-- The ids of some batches.
SELECT batch_id FROM batches WHERE batch_key = ANY (:batch_keys) ORDER BY batch_id;

-- name: sum_batches(batch_keys)^
-- The figures of some batches together, from their counters.
WITH scoped AS MATERIALIZED (
    SELECT b.batch_key, b.batch_id, shown_total(b) AS total, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict,
           coalesce(plausible_time(b.created_at), b.prepared_at) AS made_at, a.last_event_at, c.recipients AS contacted,
           c.connects, g.goal_id, g.rule, g.recipients AS goal_met,
           EXISTS (SELECT FROM uncounted_calls AS u WHERE u.batch_key = b.batch_key) AS is_counting_calls
    FROM batches AS b
    LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
    LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
    LEFT JOIN contact_counts AS c ON c.batch_key = b.batch_key
    LEFT JOIN LATERAL count_goal(b.batch_key) AS g ON true
    WHERE b.batch_key = ANY (:batch_keys)
), outcomes AS MATERIALIZED (
    SELECT c.state, sum(c.recipients)::bigint AS recipients, sum(c.attempts * c.recipients)::bigint AS attempts,
           sum(c.talked)::bigint AS talked, sum(c.talk_seconds)::bigint AS talk_seconds
    FROM outcome_counts AS c
    WHERE c.batch_key = ANY (:batch_keys) AND c.recipients > 0
    GROUP BY c.state
)
SELECT b.*, o.*,
       (SELECT coalesce(json_object_agg(v.verdict, v.batches), '{}')
        FROM (SELECT verdict, count(*) AS batches FROM scoped GROUP BY verdict ORDER BY verdict) AS v) AS verdicts,
       (SELECT coalesce(json_object_agg(state, recipients), '{}') FROM outcomes) AS states,
       (SELECT coalesce(json_agg(t), '[]')
        FROM (SELECT from_seconds, sum(recipients)::bigint AS recipients FROM talk_time_counts
              WHERE batch_key = ANY (:batch_keys) AND recipients > 0 GROUP BY from_seconds) AS t) AS talk_times,
       ARRAY(SELECT DISTINCT rule::text FROM scoped WHERE rule IS NOT NULL ORDER BY 1) AS goals,
       clock_timestamp() AS as_of
FROM (SELECT count(*) AS batches, coalesce(sum(total), 0)::bigint AS total, coalesce(sum(contacted), 0)::bigint AS contacted,
             coalesce(sum(connects), 0)::bigint AS connects, min(made_at) AS first_created_at,
             max(made_at) AS last_created_at, max(last_event_at) AS last_event_at,
             coalesce(sum(goal_met), 0)::bigint AS goal_met,
             coalesce(sum(total) FILTER (WHERE goal_id IS NOT NULL), 0)::bigint AS goal_recipients,
             count(*) FILTER (WHERE goal_id IS NOT NULL AND goal_met IS NULL) AS goal_counting,
             coalesce(bool_or(is_counting_calls), false) AS is_counting_calls
      FROM scoped) AS b
CROSS JOIN (SELECT coalesce(sum(recipients), 0)::bigint AS attempted, coalesce(sum(attempts), 0)::bigint AS attempts,
                   coalesce(sum(talked) FILTER (WHERE state = 'completed'), 0)::bigint AS talked,
                   coalesce(sum(talk_seconds) FILTER (WHERE state = 'completed'), 0)::bigint AS talk_seconds
            FROM outcomes) AS o;

-- name: list_compared_results(left_keys, right_keys, names)
-- The names of the results on either side, and how many recipients have one of each.
SELECT t.name, coalesce(sum(t.recipients) FILTER (WHERE t.batch_key = ANY (:left_keys)), 0)::bigint AS left_total,
       coalesce(sum(t.recipients) FILTER (WHERE t.batch_key = ANY (:right_keys)), 0)::bigint AS right_total
FROM result_totals AS t
WHERE t.batch_key = ANY (:left_keys::bigint[] || :right_keys::bigint[]) AND t.recipients > 0
GROUP BY t.name
ORDER BY t.name
LIMIT :names;

-- name: compare_result_values(left_keys, right_keys, name, values)
-- Recipients by the value of a result on both sides: at most :values values, the most frequent ones.
WITH keys AS MATERIALIZED (
    SELECT batch_key, true AS is_left FROM unnest(:left_keys::bigint[]) AS k (batch_key)
    UNION ALL
    SELECT batch_key, false FROM unnest(:right_keys::bigint[]) AS k (batch_key)
), frequent AS MATERIALIZED (
    SELECT v.value
    FROM keys
    CROSS JOIN LATERAL (
        SELECT value, recipients FROM result_counts AS r
        WHERE r.batch_key = keys.batch_key AND r.name = :name AND r.recipients > 0 AND r.magnitude > 0
        ORDER BY magnitude DESC, value
        LIMIT :values
    ) AS v
    GROUP BY v.value
    ORDER BY sum(v.recipients) DESC, v.value
    LIMIT :values
)
SELECT f.value, coalesce(sum(r.recipients) FILTER (WHERE k.is_left), 0)::bigint AS left_count,
       coalesce(sum(r.recipients) FILTER (WHERE NOT k.is_left), 0)::bigint AS right_count
FROM frequent AS f
CROSS JOIN keys AS k
CROSS JOIN LATERAL (
    SELECT recipients FROM result_counts
    WHERE result_counts.batch_key = k.batch_key AND result_counts.name = :name AND result_counts.value = f.value OFFSET 0
) AS r
GROUP BY f.value
ORDER BY sum(r.recipients) DESC, f.value;

-- name: compare_callers(left_keys, right_keys, values)
-- Attempts and connects by caller number on both sides: at most :values numbers, those with most attempts.
WITH keys AS MATERIALIZED (
    SELECT batch_key, true AS is_left FROM unnest(:left_keys::bigint[]) AS k (batch_key)
    UNION ALL
    SELECT batch_key, false FROM unnest(:right_keys::bigint[]) AS k (batch_key)
), frequent AS MATERIALIZED (
    SELECT v.value
    FROM keys
    CROSS JOIN LATERAL (
        SELECT value, attempts FROM call_counts AS c
        WHERE c.batch_key = keys.batch_key AND c.name = 'from_phone' AND c.value <> '' AND c.attempts > 0
          AND c.magnitude > 0
        ORDER BY magnitude DESC, value
        LIMIT :values
    ) AS v
    GROUP BY v.value
    ORDER BY sum(v.attempts) DESC, v.value
    LIMIT :values
)
SELECT f.value, coalesce(sum(c.connects) FILTER (WHERE k.is_left), 0)::bigint AS left_count,
       coalesce(sum(c.attempts) FILTER (WHERE k.is_left), 0)::bigint AS left_total,
       coalesce(sum(c.connects) FILTER (WHERE NOT k.is_left), 0)::bigint AS right_count,
       coalesce(sum(c.attempts) FILTER (WHERE NOT k.is_left), 0)::bigint AS right_total
FROM frequent AS f
CROSS JOIN keys AS k
CROSS JOIN LATERAL (
    SELECT attempts, connects FROM call_counts
    WHERE call_counts.batch_key = k.batch_key AND call_counts.name = 'from_phone' AND call_counts.value = f.value OFFSET 0
) AS c
GROUP BY f.value
ORDER BY sum(c.attempts) DESC, f.value;
