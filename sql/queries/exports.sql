-- name: begin_export(time_zone)$
-- Makes the transaction of an export read each range once, by its index, whatever the statistics say: without statistics,
-- the planner expects a few rows and would read the range again for each. Times are shown in :time_zone. Returns the
-- instant of the data.
SELECT max(now())
FROM (VALUES ('enable_seqscan', 'off'), ('enable_nestloop', 'off'), ('jit', 'off'),
             ('max_parallel_workers_per_gather', '0'), ('TimeZone', :time_zone)) AS v (name, value)
CROSS JOIN LATERAL set_config(v.name, v.value, true) AS s;

-- name: get_exported_batch(batch_id, after, until, states)^
-- What an export of a batch needs before its rows. matching: with states, the number of recipients in them, by the rule of
-- the rows themselves. Counters do not know it: they count erased people by the outcome of their calls.
SELECT b.batch_key, b.recipient_count, b.columns, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict,
       (SELECT coalesce(sum(a.attempts), 0)::bigint FROM attempt_counts AS a WHERE a.batch_key = b.batch_key) AS attempts,
       CASE WHEN :states::text[] IS NOT NULL THEN (
           SELECT count(*) FILTER (WHERE o.state = ANY (:states))  -- and those without an outcome
                  + CASE WHEN 'in_progress' = ANY (:states)
                      THEN greatest(0, least(:until, b.recipient_count) - :after) - count(*) - w.withdrawn ELSE 0 END
                  + CASE WHEN 'withdrawn' = ANY (:states) THEN w.withdrawn ELSE 0 END
           FROM outcomes AS o
           WHERE o.batch_key = b.batch_key AND o.recipient_no > :after AND o.recipient_no <= :until
       ) END AS matching
FROM batches AS b
LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
CROSS JOIN LATERAL (
    SELECT CASE WHEN b.withdrawn_count > 0 AND :states && ARRAY['in_progress', 'withdrawn'] THEN (
        SELECT count(*) FROM recipients AS r
        WHERE r.batch_key = b.batch_key AND r.recipient_no > :after AND r.recipient_no <= :until
          AND r.withdrawn_at IS NOT NULL
          AND NOT EXISTS (SELECT FROM outcomes AS o
                          WHERE o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no)
    ) ELSE 0 END AS withdrawn
) AS w
WHERE b.batch_id = :batch_id;

-- name: list_exported_batches(agent_id, since, before, after, until)
-- The batches of an export across batches, by id, and the number of recipients of each.
SELECT batch_key, batch_id, recipient_count FROM batches
WHERE batch_id > :after AND batch_id <= :until AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
  AND (:since::timestamptz IS NULL OR coalesce(created_at, prepared_at) >= :since)
  AND (:before::timestamptz IS NULL OR coalesce(created_at, prepared_at) < :before)
ORDER BY batch_id;

-- name: list_result_columns(batch_keys, names)
-- The names of the results of some batches, at most :names.
SELECT DISTINCT t.name
FROM unnest(:batch_keys::bigint[]) AS k (batch_key)
CROSS JOIN LATERAL (
    SELECT name FROM result_totals
    WHERE result_totals.batch_key = k.batch_key AND recipients > 0 ORDER BY name LIMIT :names
) AS t
ORDER BY t.name
LIMIT :names;

-- name: list_parameter_columns(batch_keys, names, sampled)
-- The names of the call parameters of some batches, at most :names: the columns of their files, or where these are not
-- known, the parameters of the first :sampled recipients.
SELECT DISTINCT c.name
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT unnest(b.columns) AS name
    UNION
    SELECT k.name
    FROM (SELECT r.parameters FROM recipients AS r
          WHERE b.columns = '{}' AND r.batch_key = b.batch_key ORDER BY r.recipient_no LIMIT :sampled) AS r
    CROSS JOIN LATERAL jsonb_object_keys(
        CASE WHEN jsonb_typeof(r.parameters) = 'object' THEN r.parameters ELSE '{}' END) AS k (name)
) AS c
WHERE b.batch_key = ANY (:batch_keys) AND c.name <> 'customer_phone'
ORDER BY c.name
LIMIT :names;

-- name: list_export_columns(rows)
-- The columns of an export, in order, with their types.
SELECT name, type FROM export_columns(:rows);

-- name: write_export_query(rows, arguments, format, parameters, escape, has_other_parameters, results)$
-- The text of the query whose result is an export's file, for COPY.
SELECT export_query(:rows, :arguments, :format, :parameters, :escape, :has_other_parameters, :results);
