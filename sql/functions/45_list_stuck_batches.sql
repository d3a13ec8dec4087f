-- Open batches that stand still at the provider, by the reason of their last comparison: since when, and some of the
-- recipients concerned. At most p_counted batches are looked at.
CREATE OR REPLACE FUNCTION list_stuck_batches(p_counted bigint)
RETURNS TABLE (batch_key bigint, batch_id bigint, since timestamptz, recipients integer[])
LANGUAGE sql STABLE
AS $$
SELECT s.batch_key, b.batch_id,
       greatest(a.last_webhook_at, (SELECT m.taken_at FROM provider_metrics AS m WHERE m.batch_key = s.batch_key
                                  ORDER BY m.taken_at DESC LIMIT 1)),
       ARRAY(SELECT jsonb_array_elements_text(k.reason -> 'recipients')::integer)
FROM (SELECT * FROM batch_schedules WHERE due_at < 'infinity' AND verdict = 'open' ORDER BY due_at LIMIT p_counted) AS s
JOIN batches AS b ON b.batch_key = s.batch_key
LEFT JOIN batch_activity AS a ON a.batch_key = s.batch_key
CROSS JOIN LATERAL (
    SELECT reasons FROM reconciliations AS r WHERE r.batch_key = s.batch_key ORDER BY r.reconciliation_id DESC LIMIT 1
) AS l
CROSS JOIN LATERAL (
    SELECT e.reason FROM jsonb_array_elements(l.reasons) AS e (reason) WHERE e.reason ->> 'code' = 'stuck'
) AS k
$$;
