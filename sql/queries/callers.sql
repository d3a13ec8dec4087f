-- name: list_caller_counts(period, batches, numbers)
-- Attempts by batch and caller number, of the newest :batches batches that were created in the last :period; at most
-- :numbers numbers of each, those with more binary digits in their count first.
SELECT b.agent_id, b.batch_id, c.from_phone, c.attempts, c.connects
FROM (
    SELECT batch_key, batch_id, agent_id FROM batches
    WHERE batch_id IS NOT NULL AND coalesce(created_at, prepared_at) >= statement_timestamp() - :period::interval
    ORDER BY coalesce(created_at, prepared_at) DESC
    LIMIT :batches
) AS b
CROSS JOIN LATERAL (
    SELECT k.value AS from_phone, k.attempts, k.connects
    FROM call_counts AS k
    WHERE k.batch_key = b.batch_key AND k.name = 'from_phone' AND k.value <> '' AND k.magnitude > 0 AND k.attempts > 0
    ORDER BY k.magnitude DESC, k.value
    LIMIT :numbers
) AS c;
