-- name: get_batch_counts(time_zone, names, values, step, hours, batch_id)^
-- All counters of a batch in one statement, and so as of one instant. The cost does not depend on the number of
-- recipients: at most :values values of each result are read, those with more binary digits first. At most
-- :hours entries of the timeline are read, the latest.
SELECT b.batch_id AS id, b.name, b.agent_id, b.status, plausible_time(b.created_at) AS created_at, b.upload_state,
       coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS total_recipients, clock_timestamp() AS as_of,
       (SELECT a.last_event_at FROM batch_activity AS a WHERE a.batch_key = b.batch_key) AS last_event_at,
       shown_verdict(s.verdict, p.cause IS NOT NULL) AS verdict, s.verdict_since, s.last_reconciled_at, s.healing,
       s.details_expected_at, row_to_json(p) AS spilled,
       (SELECT count(*)::integer FROM outstanding_details AS d WHERE d.batch_key = b.batch_key) AS details_outstanding,
       (SELECT json_build_object('reasons', r.reasons, 'differences', r.differences,
                                 'inconsistencies', r.inconsistencies, 'healed', r.healed)
        FROM reconciliations AS r WHERE r.batch_key = b.batch_key
        ORDER BY r.reconciliation_id DESC LIMIT 1) AS reconciliation,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT state, attempts, source, recipients, talked, talk_seconds
              FROM outcome_counts WHERE batch_key = b.batch_key AND recipients > 0) AS c) AS outcomes,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT extract(isodow FROM slot AT TIME ZONE :time_zone)::integer AS weekday,
                     extract(hour FROM slot AT TIME ZONE :time_zone)::integer AS hour, status, sum(attempts) AS attempts
              FROM attempt_counts WHERE batch_key = b.batch_key AND attempts > 0 GROUP BY 1, 2, 3) AS c) AS attempts,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT date_trunc(:step, t.at, :time_zone) AS start, sum(t.attempts)::bigint AS attempts,
                     sum(t.connects)::bigint AS connects, sum(t.expected)::bigint AS expected
              FROM (SELECT slot AS at, attempts, CASE status WHEN 'completed' THEN attempts ELSE 0 END AS connects,
                           0 AS expected
                    FROM attempt_counts WHERE batch_key = b.batch_key AND attempts > 0 AND plausible_time(slot) IS NOT NULL
                    UNION ALL
                    SELECT due_at, 0, 0, recipients
                    FROM retry_counts WHERE batch_key = b.batch_key AND is_open AND plausible_time(due_at) IS NOT NULL) AS t
              GROUP BY 1 ORDER BY 1 DESC LIMIT :hours) AS c) AS timeline,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT from_seconds, recipients
              FROM talk_time_counts WHERE batch_key = b.batch_key AND recipients > 0) AS c) AS talk_times,
       (SELECT c.recipients FROM contact_counts AS c WHERE c.batch_key = b.batch_key) AS contacted,
       (SELECT row_to_json(c) FROM count_retries(b.batch_key, statement_timestamp()) AS c) AS retries,
       batch_version(b.batch_key, statement_timestamp()) AS version,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT n.name, n.recipients AS total, v.value, v.recipients
              FROM (SELECT name, recipients FROM result_totals
                    WHERE batch_key = b.batch_key AND recipients > 0 ORDER BY name LIMIT :names) AS n
              CROSS JOIN LATERAL (
                  SELECT value, recipients FROM result_counts AS r
                  WHERE r.batch_key = b.batch_key AND r.name = n.name AND r.recipients > 0 AND r.magnitude > 0
                  ORDER BY magnitude DESC, value
                  LIMIT :values) AS v
              ORDER BY n.name, v.recipients DESC, v.value) AS c) AS results,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT n.name, n.attempts AS total_attempts, n.connects AS total_connects, v.value, v.attempts, v.connects
              FROM (SELECT * FROM call_counts AS k
                    WHERE k.batch_key = b.batch_key AND k.name IN ('from_phone', 'failure_reason') AND k.value = ''
                      AND k.attempts > 0) AS n
              CROSS JOIN LATERAL (
                  SELECT value, attempts, connects FROM call_counts AS k
                  WHERE k.batch_key = b.batch_key AND k.name = n.name AND k.value <> '' AND k.attempts > 0
                    AND k.magnitude > 0
                  ORDER BY magnitude DESC, value
                  LIMIT :values) AS v
              ORDER BY n.name, v.attempts DESC, v.value) AS c) AS calls,
       (SELECT json_build_object('rule', g.rule, 'set_at', g.set_at, 'recipients', g.recipients)
        FROM count_goal(b.batch_key) AS g) AS goal,
       NOT EXISTS (SELECT FROM uncounted_calls AS u WHERE u.batch_key = b.batch_key) AS is_calls_counted,
       (SELECT coalesce(json_agg(c ORDER BY c.role DESC), '[]')
        FROM (SELECT m.campaign_role AS role, m.batch_key AS upload_id, m.batch_id, m.upload_state AS state,
                     coalesce(m.total_recipients, m.recipient_count - m.withdrawn_count) AS total_recipients,
                     (SELECT coalesce(json_object_agg(o.state, o.recipients), '{}')
                      FROM (SELECT state, sum(recipients) AS recipients FROM outcome_counts
                            WHERE batch_key = m.batch_key AND recipients > 0 GROUP BY state) AS o) AS states
              FROM batches AS m
              WHERE m.campaign_key = b.campaign_key) AS c) AS campaign, b.campaign_key AS campaign_id
FROM batches AS b
LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
LEFT JOIN find_spilled() AS p ON true
WHERE b.batch_id = :batch_id;

-- name: get_batch_version(batch_id)$
-- A digest that changes when the outcomes of a batch change; null for no batch. A few look-ups by key.
SELECT batch_version(b.batch_key, statement_timestamp()) FROM batches AS b WHERE b.batch_id = :batch_id;

-- name: get_batch_figures(batch_id)^
-- Only the counters that the provider's own twelve figures come from.
SELECT b.batch_id AS id, b.name, b.agent_id, b.status, plausible_time(b.created_at) AS created_at,
       coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS total_recipients, clock_timestamp() AS as_of,
       NULL::timestamptz AS last_event_at, '[]' AS attempts, '[]' AS results,
       (SELECT coalesce(json_agg(c), '[]')
        FROM (SELECT state, attempts, source, recipients, talked, talk_seconds
              FROM outcome_counts WHERE batch_key = b.batch_key AND recipients > 0) AS c) AS outcomes
FROM batches AS b
WHERE b.batch_id = :batch_id;
