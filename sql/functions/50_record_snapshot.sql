-- Stores the provider's figures of a batch as of p_at: a new row if they changed, else the last one is seen again. A batch
-- is closed once they say that it is finished, so that it takes no later calls, and open again when they no longer do.
-- Returns since when the figures have been the same; null when the lease was lost, and then it writes nothing.
CREATE OR REPLACE FUNCTION record_snapshot(p_batch_key bigint, p_fence bigint, p_at timestamptz, p_figures jsonb)
RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
    v_new  provider_metrics;
    v_last provider_metrics;
BEGIN
    PERFORM FROM batch_schedules AS s WHERE s.batch_key = p_batch_key AND s.fence = p_fence FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO v_last FROM provider_metrics AS m WHERE m.batch_key = p_batch_key ORDER BY m.taken_at DESC LIMIT 1;
    v_new := jsonb_populate_record(NULL::provider_metrics, p_figures);
    v_new.batch_key := p_batch_key;
    v_new.taken_at := coalesce(v_last.taken_at, p_at);
    v_new.last_seen_at := coalesce(v_last.last_seen_at, p_at);
    IF v_last IS NOT DISTINCT FROM v_new THEN
        UPDATE provider_metrics AS m
        SET last_seen_at = greatest(m.last_seen_at, p_at)
        WHERE m.batch_key = p_batch_key AND m.taken_at = v_last.taken_at;
        RETURN v_last.taken_at;
    END IF;
    v_new.taken_at := greatest(p_at, v_last.taken_at + interval '1 microsecond');
    v_new.last_seen_at := v_new.taken_at;
    INSERT INTO provider_metrics SELECT v_new.*;
    UPDATE batches AS b SET closed_at = CASE WHEN f.is_finished THEN v_new.taken_at END
    FROM (SELECT v_new.in_progress_count = 0 AND v_new.pending_retry_count = 0
                 AND v_new.total_processed >= v_new.total_recipients AS is_finished) AS f
    WHERE b.batch_key = p_batch_key AND (b.closed_at IS NULL) = f.is_finished;
    RETURN v_new.taken_at;
END
$$;
