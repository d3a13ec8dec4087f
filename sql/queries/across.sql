-- name: count_batches_made(start, until, agent_id, most)$
-- The number of batches that the provider created in a period, of one agent or of all; counts no further than :most.
SELECT count(*)
FROM (
    (SELECT FROM batches
     WHERE :agent_id::bigint IS NULL AND batch_id IS NOT NULL
       AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
     LIMIT :most)
    UNION ALL
    (SELECT FROM batches
     WHERE agent_id = :agent_id AND batch_id IS NOT NULL
       AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
     LIMIT :most)
) AS b;

-- name: list_outcomes_across(start, until, agent_id, group_by, time_zone, after_no, after_text, limit)
-- Outcomes of the batches created in a period, in groups: one page in the order of their keys, from the counters and as
-- of one instant. A campaign counts as created with its test batch, and belongs as a whole to that group.
WITH made AS MATERIALIZED (
    SELECT batch_key, campaign_key, campaign_role
    FROM batches
    WHERE :agent_id::bigint IS NULL AND batch_id IS NOT NULL
      AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
    UNION ALL
    SELECT batch_key, campaign_key, campaign_role
    FROM batches
    WHERE agent_id = :agent_id AND batch_id IS NOT NULL
      AND coalesce(created_at, prepared_at) >= :start AND coalesce(created_at, prepared_at) < :until
), scoped AS MATERIALIZED (
    SELECT batch_key FROM made WHERE :group_by <> 'campaign' OR campaign_key IS NULL
    UNION ALL
    SELECT m.batch_key
    FROM made
    CROSS JOIN LATERAL (
        SELECT batch_key FROM batches AS c
        WHERE c.campaign_key = made.campaign_key AND c.campaign_key IS NOT NULL AND c.batch_id IS NOT NULL OFFSET 0
    ) AS m
    WHERE :group_by = 'campaign' AND made.campaign_role = 'test'
), keyed AS MATERIALIZED (
    SELECT b.batch_key, b.batch_id, b.agent_id, b.name, b.campaign_key, b.campaign_role,
           coalesce(plausible_time(b.created_at), b.prepared_at) AS made_at,
           coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS given_total,
           CASE :group_by
               WHEN 'agent' THEN b.agent_id
               WHEN 'day' THEN date '2000-01-01' - (coalesce(plausible_time(b.created_at), b.prepared_at) AT TIME ZONE :time_zone)::date
               WHEN 'campaign' THEN -coalesce(b.campaign_key, b.batch_key)
               ELSE 0
           END AS key_no,
           (CASE WHEN :group_by = 'name' THEN b.name ELSE '' END) COLLATE "C" AS key_text
    FROM scoped AS s
    JOIN batches AS b ON b.batch_key = s.batch_key
), page AS MATERIALIZED (
    SELECT DISTINCT key_no, key_text
    FROM keyed
    WHERE (key_no, key_text) > (:after_no::bigint, :after_text::text COLLATE "C")
    ORDER BY key_no, key_text
    LIMIT :limit
), tallied AS MATERIALIZED (
    SELECT k.key_no, k.key_text, k.batch_key, o.state, sum(o.recipients) AS recipients,
           sum(o.attempts * o.recipients) AS attempts
    FROM page AS p
    JOIN keyed AS k USING (key_no, key_text)
    CROSS JOIN LATERAL (SELECT * FROM outcome_counts WHERE outcome_counts.batch_key = k.batch_key OFFSET 0) AS o
    GROUP BY 1, 2, 3, 4
), counted AS MATERIALIZED (
    SELECT k.*, greatest(k.given_total, n.recipients) AS total, shown_verdict(v.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict,
           coalesce(c.contacted, 0) AS contacted,
           coalesce(c.connects, 0) AS connects, coalesce(n.recipients, 0) AS known, coalesce(n.attempts, 0) AS attempts,
           a.last_event_at, g.goal_id, g.recipients AS goal_met
    FROM page AS p
    JOIN keyed AS k USING (key_no, key_text)
    LEFT JOIN LATERAL (SELECT verdict FROM batch_schedules WHERE batch_key = k.batch_key OFFSET 0) AS v ON true
    LEFT JOIN LATERAL (SELECT recipients AS contacted, connects FROM contact_counts
                       WHERE batch_key = k.batch_key OFFSET 0) AS c ON true
    LEFT JOIN LATERAL (SELECT last_event_at FROM batch_activity WHERE batch_key = k.batch_key OFFSET 0) AS a ON true
    LEFT JOIN LATERAL count_goal(k.batch_key) AS g ON true
    LEFT JOIN (SELECT batch_key, sum(recipients) AS recipients, sum(attempts) AS attempts FROM tallied GROUP BY 1) AS n
        ON n.batch_key = k.batch_key
), states AS (
    SELECT s.key_no, s.key_text, jsonb_object_agg(s.state, s.recipients) AS states
    FROM (
        SELECT key_no, key_text, state, sum(recipients)::bigint AS recipients FROM tallied GROUP BY 1, 2, 3
    ) AS s
    GROUP BY 1, 2
), verdicts AS (
    SELECT s.key_no, s.key_text, jsonb_object_agg(s.verdict, s.batches) AS verdicts
    FROM (SELECT key_no, key_text, verdict, count(*) AS batches FROM counted GROUP BY 1, 2, 3) AS s
    GROUP BY 1, 2
)
SELECT c.key_no, c.key_text, count(*) AS batches, sum(c.total)::bigint AS total, sum(c.known)::bigint AS attempted,
       sum(c.total - c.known)::bigint AS in_progress, sum(c.attempts)::bigint AS attempts,
       sum(c.connects)::bigint AS connects, sum(c.contacted)::bigint AS contacted, min(c.made_at) AS first_created_at,
       max(c.made_at) AS last_created_at, max(c.last_event_at) AS last_event_at,
       count(c.goal_id) AS goal_batches, count(*) FILTER (WHERE c.goal_id IS NOT NULL AND c.goal_met IS NULL) AS goal_counting,
       coalesce(sum(c.goal_met), 0)::bigint AS goal_met,
       coalesce(sum(c.total) FILTER (WHERE c.goal_id IS NOT NULL), 0)::bigint AS goal_recipients,
       min(c.campaign_key) AS campaign_id,
       (array_agg(c.name ORDER BY c.campaign_role NULLS FIRST, c.batch_key))[1] AS name,
       CASE WHEN :group_by = 'campaign' THEN array_agg(c.batch_id ORDER BY c.batch_id) END AS batch_ids,
       coalesce(min(s.states::text), '{}') AS states, min(v.verdicts::text) AS verdicts, statement_timestamp() AS as_of
FROM counted AS c
LEFT JOIN states AS s USING (key_no, key_text)
LEFT JOIN verdicts AS v USING (key_no, key_text)
GROUP BY c.key_no, c.key_text
ORDER BY c.key_no, c.key_text;
