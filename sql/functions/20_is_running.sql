-- Whether the provider has not finished a batch: it is open, or was never compared and recipients are left. In either case
-- something must have shown it in the day before p_now: its creation, an event, a retry that is due, or, if it is open, a
-- comparison. Otherwise a batch of which nothing is heard any more would run for ever. Look-ups by key.
CREATE OR REPLACE FUNCTION is_running(
    p_batch batches, p_verdict text, p_last_reconciled_at timestamptz, p_last_event_at timestamptz, p_now timestamptz
)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT CASE coalesce(p_verdict, 'unverified')
    WHEN 'open' THEN is_active.known OR coalesce(p_last_reconciled_at >= p_now - interval '1 day', false)
    WHEN 'unverified' THEN is_active.known AND shown_total(p_batch) > (
        SELECT coalesce(sum(c.recipients), 0) FROM outcome_counts AS c
        WHERE c.batch_key = p_batch.batch_key AND c.state <> 'pending_retry')
    ELSE false
END
FROM (
    SELECT greatest(coalesce(plausible_time(p_batch.created_at), p_batch.prepared_at), p_last_event_at) >= p_now - interval '1 day'
        OR EXISTS (SELECT FROM retry_counts AS r
                   WHERE r.batch_key = p_batch.batch_key AND r.is_open AND r.due_at >= p_now - interval '1 day'
                     AND isfinite(r.due_at)) AS known
) AS is_active
$$;
