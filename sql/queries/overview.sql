-- name: list_overview(q, q_id, agent_id, campaign_id, verdict, is_running, start, until, sort, is_descending, most, limit, offset)
-- One page of the batches that the provider knows, with the figures that show how each is doing, and the number of all that
-- match, as of one instant. Reads one small row for each batch, and counters only of those on the page; to sort by a
-- counter, of all that match, unless they are more than :most. The first row has no batch if the page is empty.
WITH matching AS MATERIALIZED (
    SELECT b.batch_key, b.batch_id, coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS given_total,
           CASE WHEN :sort = 'name' THEN lower(b.name) END AS key_text,
           date_part('epoch', CASE :sort
               WHEN 'created' THEN coalesce(plausible_time(b.created_at), b.prepared_at)
               WHEN 'last_event' THEN a.last_event_at
           END) AS key_no
    FROM batches AS b
    -- Only where they filter or sort: a page of all batches looks none of them up.
    LEFT JOIN batch_schedules AS s
        ON s.batch_key = b.batch_key AND (:verdict::text IS NOT NULL OR :is_running::boolean IS NOT NULL)
    LEFT JOIN batch_activity AS a
        ON a.batch_key = b.batch_key AND (:sort = 'last_event' OR :is_running IS NOT NULL)
    WHERE b.batch_id IS NOT NULL
      AND (:q::text IS NULL OR strpos(lower(b.name), lower(:q)) > 0 OR b.batch_id = :q_id::bigint)
      AND (:agent_id::bigint IS NULL OR b.agent_id = :agent_id)
      AND (:campaign_id::bigint IS NULL OR b.campaign_key = :campaign_id)
      AND (:start::timestamptz IS NULL OR coalesce(b.created_at, b.prepared_at) >= :start)
      AND (:until::timestamptz IS NULL OR coalesce(b.created_at, b.prepared_at) < :until)
      AND (:verdict::text IS NULL OR shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) = :verdict)
      AND (:is_running::boolean IS NULL
           OR (coalesce(s.verdict, 'unverified') IN ('open', 'unverified')  -- cheap, and true of few
               AND is_running(b, s.verdict, s.last_reconciled_at, a.last_event_at, statement_timestamp())) = :is_running)
), counted AS MATERIALIZED (
    SELECT count(*) AS total FROM matching
), keyed AS (
    SELECT m.batch_key, m.batch_id, m.key_text, m.key_no
    FROM matching AS m
    WHERE :sort NOT IN ('recipients', 'reached', 'success_rate')
    UNION ALL
    SELECT m.batch_key, m.batch_id, m.key_text,
           CASE :sort
               WHEN 'recipients' THEN greatest(m.given_total, o.known)
               WHEN 'reached' THEN o.completed
               ELSE o.completed::double precision / nullif(greatest(m.given_total, o.known), 0)
           END
    FROM matching AS m
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.recipients), 0)::bigint AS known,
               coalesce(sum(c.recipients) FILTER (WHERE c.state = 'completed'), 0)::bigint AS completed
        FROM outcome_counts AS c
        WHERE c.batch_key = m.batch_key
        OFFSET 0
    ) AS o
    WHERE :sort IN ('recipients', 'reached', 'success_rate') AND (SELECT k.total FROM counted AS k) <= :most
), page AS MATERIALIZED (
    SELECT k.batch_key, row_number() OVER () AS nth
    FROM (
        SELECT batch_key FROM keyed
        ORDER BY CASE WHEN NOT :is_descending::boolean THEN key_text END,
                 CASE WHEN :is_descending THEN key_text END DESC NULLS LAST,
                 CASE WHEN :is_descending THEN -key_no ELSE key_no END NULLS LAST, batch_id DESC
        LIMIT :limit OFFSET :offset
    ) AS k
)
SELECT n.total AS matching, statement_timestamp() AS as_of, b.batch_id AS id, b.name, b.agent_id, b.status,
       coalesce(plausible_time(b.created_at), b.prepared_at) AS created_at, b.campaign_key AS campaign_id, b.campaign_role,
       coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS total_recipients, a.last_event_at,
       shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict, s.verdict_since, s.last_reconciled_at, s.healing,
       s.details_expected_at, (SELECT row_to_json(p) FROM find_spilled() AS p) AS spilled,
       is_running(b, s.verdict, s.last_reconciled_at, a.last_event_at, statement_timestamp()) AS is_running,
       (SELECT count(*)::integer FROM outstanding_details AS d WHERE d.batch_key = b.batch_key) AS details_outstanding,
       (SELECT json_build_object('reasons', r.reasons)
        FROM reconciliations AS r WHERE r.batch_key = b.batch_key
        ORDER BY r.reconciliation_id DESC LIMIT 1) AS reconciliation,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT state, attempts, source, recipients, talked, talk_seconds
              FROM outcome_counts AS k WHERE k.batch_key = b.batch_key AND k.recipients > 0) AS c) AS outcomes,
       (SELECT row_to_json(c) FROM count_retries(b.batch_key, statement_timestamp()) AS c) AS retries,
       (SELECT json_build_object('rule', g.rule, 'set_at', g.set_at, 'recipients', g.recipients)
        FROM count_goal(b.batch_key) AS g) AS goal,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT k.slot AS start, sum(k.attempts)::bigint AS calls
              FROM attempt_counts AS k
              WHERE k.batch_key = b.batch_key AND k.attempts > 0 AND k.slot <= statement_timestamp()
                AND k.slot > statement_timestamp() - interval '1 day'
              GROUP BY k.slot) AS c) AS slots,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT max(k.due_at) AS due_at, sum(k.recipients)::bigint AS recipients
              FROM retry_counts AS k
              WHERE k.batch_key = b.batch_key AND k.is_open AND isfinite(k.due_at)
                AND k.due_at >= retry_slot(statement_timestamp())
              GROUP BY date_trunc('hour', k.due_at)) AS c) AS due
FROM counted AS n
LEFT JOIN page AS p ON true
LEFT JOIN batches AS b ON b.batch_key = p.batch_key
LEFT JOIN batch_schedules AS s ON s.batch_key = p.batch_key
LEFT JOIN batch_activity AS a ON a.batch_key = p.batch_key
ORDER BY p.nth;

-- name: list_agents(after, limit, batches, numbers)
-- Agents with batches that the provider knows, by id: the number of their batches, the latest, whether they have a goal, and
-- the numbers that called in the newest :batches batches, at most :numbers of each. From one agent to the next by index.
WITH RECURSIVE agents AS (
    (SELECT b.agent_id, 1 AS nth FROM batches AS b
     WHERE b.batch_id IS NOT NULL AND b.agent_id > coalesce(:after::bigint, -1)
     ORDER BY b.agent_id LIMIT 1)
    UNION ALL
    SELECT n.agent_id, a.nth + 1
    FROM agents AS a
    CROSS JOIN LATERAL (
        SELECT b.agent_id FROM batches AS b
        WHERE b.batch_id IS NOT NULL AND b.agent_id > a.agent_id
        ORDER BY b.agent_id LIMIT 1
    ) AS n
    WHERE a.nth < :limit::integer
)
SELECT a.agent_id,
       (SELECT count(*) FROM batches AS b WHERE b.agent_id = a.agent_id AND b.batch_id IS NOT NULL) AS batches,
       l.batch_id, l.name, coalesce(plausible_time(l.created_at), l.prepared_at) AS created_at,
       coalesce((SELECT k.rule IS NOT NULL FROM agent_goals AS k WHERE k.agent_id = a.agent_id
                 ORDER BY k.goal_id DESC LIMIT 1), false) AS has_goal,
       ARRAY(SELECT c.value
             FROM (SELECT b.batch_key FROM batches AS b
                   WHERE b.agent_id BETWEEN a.agent_id AND a.agent_id AND b.batch_id IS NOT NULL
                   ORDER BY b.agent_id DESC, coalesce(b.created_at, b.prepared_at) DESC LIMIT :batches) AS b
             CROSS JOIN LATERAL (
                 SELECT k.value, k.attempts FROM call_counts AS k
                 WHERE k.batch_key = b.batch_key AND k.name = 'from_phone' AND k.value <> '' AND k.magnitude > 0
                   AND k.attempts > 0
                 ORDER BY k.magnitude DESC, k.value LIMIT :numbers) AS c
             GROUP BY c.value
             ORDER BY sum(c.attempts) DESC, c.value
             LIMIT :numbers) AS callers
FROM agents AS a
CROSS JOIN LATERAL (
    -- A range, not equality: then only the agent's index gives the order, never the index of all batches.
    SELECT * FROM batches AS b
    WHERE b.agent_id BETWEEN a.agent_id AND a.agent_id AND b.batch_id IS NOT NULL
    ORDER BY b.agent_id DESC, coalesce(b.created_at, b.prepared_at) DESC LIMIT 1
) AS l
ORDER BY a.agent_id;

-- name: get_summary(since, counted)^
-- How much is going on: batches that are running, the calls of batches since a time, and what waits for an answer, counted
-- up to :counted. Reads one small row for each batch, and the counters of batches with calls since then.
SELECT statement_timestamp() AS as_of,
       (SELECT count(*) FROM batches AS b
        LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
        LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
        WHERE b.batch_id IS NOT NULL AND coalesce(s.verdict, 'unverified') IN ('open', 'unverified')
          AND is_running(b, s.verdict, s.last_reconciled_at, a.last_event_at, statement_timestamp())) AS running,
       coalesce(t.calls, 0)::bigint AS calls, coalesce(t.connects, 0)::bigint AS connects, t.batches,
       (SELECT count(*) FROM (SELECT FROM unattributed LIMIT :counted) AS u) AS unattributed,
       (SELECT count(*) FROM (SELECT FROM batches WHERE upload_state = 'unknown' LIMIT :counted) AS u) AS unknown_uploads
FROM (
    SELECT sum(c.calls) AS calls, sum(c.connects) AS connects, count(*) FILTER (WHERE c.calls > 0) AS batches
    FROM batch_activity AS a
    CROSS JOIN LATERAL (
        SELECT sum(k.attempts) AS calls, sum(k.attempts) FILTER (WHERE k.status = 'completed') AS connects
        FROM attempt_counts AS k
        WHERE k.batch_key = a.batch_key AND k.slot >= :since AND k.attempts > 0 OFFSET 0
    ) AS c
    WHERE greatest(a.last_event_at, a.last_call_at) >= :since
) AS t;
