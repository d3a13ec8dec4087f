-- name: list_overview(q, q_id, agent_id, campaign_id, verdict, is_running, start, until, sort, is_descending, most, limit, offset)
-- One page of the batches that the provider knows, with the figures that tell how each is doing, and the number of all that
-- match, as of one instant. Reads one small row for each batch, and counters only of those on the page; to sort by a
-- counter, of all that match, unless they are more than :most. The first row has no batch if the page is empty.
WITH matching AS MATERIALIZED (
    SELECT b.batch_key, b.batch_id, b.name, a.last_event_at,
           coalesce(plausible_time(b.created_at), b.prepared_at) AS made_at,
           coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS given_total
    FROM batches AS b
    LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
    LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
    WHERE b.batch_id IS NOT NULL
      AND (:q::text IS NULL OR strpos(lower(b.name), lower(:q)) > 0 OR b.batch_id = :q_id::bigint)
      AND (:agent_id::bigint IS NULL OR b.agent_id = :agent_id)
      AND (:campaign_id::bigint IS NULL OR b.campaign_key = :campaign_id)
      AND (:start::timestamptz IS NULL OR coalesce(b.created_at, b.prepared_at) >= :start)
      AND (:until::timestamptz IS NULL OR coalesce(b.created_at, b.prepared_at) < :until)
      AND (:verdict::text IS NULL OR coalesce(s.verdict, 'unverified') = :verdict)
      AND (:is_running::boolean IS NULL
           OR is_running(b, s.verdict, s.last_reconciled_at, a.last_event_at, statement_timestamp()) = :is_running)
), counted AS MATERIALIZED (
    SELECT count(*) AS total FROM matching
), keyed AS (
    SELECT m.batch_key, m.batch_id, CASE WHEN :sort = 'name' THEN lower(m.name) END AS key_text,
           CASE :sort
               WHEN 'created' THEN extract(epoch FROM m.made_at)
               WHEN 'last_event' THEN extract(epoch FROM m.last_event_at)
               WHEN 'recipients' THEN greatest(m.given_total, o.known)
               WHEN 'reached' THEN o.completed
               WHEN 'success_rate' THEN o.completed / nullif(greatest(m.given_total, o.known), 0)::numeric
           END AS key_no
    FROM matching AS m
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.recipients), 0) AS known,
               coalesce(sum(c.recipients) FILTER (WHERE c.state = 'completed'), 0) AS completed
        FROM outcome_counts AS c
        WHERE c.batch_key = m.batch_key AND :sort IN ('recipients', 'reached', 'success_rate')
          AND (SELECT k.total FROM counted AS k) <= :most
        OFFSET 0
    ) AS o
), page AS MATERIALIZED (
    SELECT k.batch_key,
           row_number() OVER (
               ORDER BY CASE WHEN NOT :is_descending::boolean THEN k.key_text END,
                        CASE WHEN :is_descending THEN k.key_text END DESC NULLS LAST,
                        CASE WHEN :is_descending THEN -k.key_no ELSE k.key_no END NULLS LAST, k.batch_id DESC) AS nth
    FROM keyed AS k
    ORDER BY nth
    LIMIT :limit OFFSET :offset
)
SELECT n.total AS matching, statement_timestamp() AS as_of, b.batch_id AS id, b.name, b.agent_id, b.status,
       coalesce(plausible_time(b.created_at), b.prepared_at) AS created_at, b.campaign_key AS campaign_id, b.campaign_role,
       coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS total_recipients, a.last_event_at,
       coalesce(s.verdict, 'unverified') AS verdict, s.verdict_since, s.last_reconciled_at, s.healing, s.details_expected_at,
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
        FROM count_goal(b.batch_key, b.agent_id) AS g) AS goal,
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
