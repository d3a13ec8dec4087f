-- Ends a worker's turn at a batch: records its verdict, one line of history and when it is due next, and releases the
-- lease; with p_leased_until it keeps the lease until then, and goes on. Returns false when the lease has been lost: then it
-- writes nothing, because another worker has a newer result.
DROP FUNCTION IF EXISTS record_reconciliation(
    bigint, bigint, timestamptz, text, jsonb, jsonb, jsonb, integer, integer, timestamptz);
DROP FUNCTION IF EXISTS record_reconciliation(
    bigint, bigint, timestamptz, text, jsonb, jsonb, jsonb, integer, integer, timestamptz, text);
CREATE OR REPLACE FUNCTION record_reconciliation(
    p_batch_key bigint, p_fence bigint, p_at timestamptz, p_verdict text, p_reasons jsonb, p_differences jsonb,
    p_inconsistencies jsonb, p_calls_spent integer, p_healed integer, p_due_at timestamptz,
    p_verdict_text text DEFAULT NULL, p_leased_until timestamptz DEFAULT NULL
)
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    v_last  reconciliations;
    v_since timestamptz;
    v_ended timestamptz;
    v_ends  timestamptz;
    v_outstanding integer;
    v_expected_at timestamptz;
BEGIN
    SELECT count(*) INTO v_outstanding FROM outstanding_details AS d WHERE d.batch_key = p_batch_key;
    SELECT s.ends_at INTO v_ended FROM batch_schedules AS s WHERE s.batch_key = p_batch_key;
    IF p_verdict = 'complete' THEN
        SELECT a.last_call_at INTO v_ends FROM batch_activity AS a WHERE a.batch_key = p_batch_key;
    END IF;
    UPDATE batch_schedules AS s
    SET verdict = p_verdict, last_reconciled_at = p_at, due_at = p_due_at,
        leased_until = CASE WHEN p_leased_until IS NULL THEN '-infinity' ELSE greatest(s.leased_until, p_leased_until) END,
        holder = CASE WHEN p_leased_until IS NOT NULL THEN s.holder END,
        ends_at = v_ends, retry_at = NULL, verdict_text = p_verdict_text,
        verdict_since = CASE WHEN s.verdict = p_verdict THEN coalesce(s.verdict_since, p_at) ELSE p_at END
    WHERE s.batch_key = p_batch_key AND s.fence = p_fence
    RETURNING s.verdict_since, CASE WHEN v_outstanding > 0 THEN s.details_expected_at END
    INTO v_since, v_expected_at;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A batch that is complete takes no later calls.
    IF v_ended IS DISTINCT FROM v_ends THEN
        PERFORM place_again(p_batch_key, least(v_ended, v_ends));
    END IF;
    SELECT * INTO v_last
    FROM reconciliations AS r
    WHERE r.batch_key = p_batch_key
    ORDER BY r.reconciliation_id DESC
    LIMIT 1;
    IF p_healed = 0 AND (v_last.verdict, v_last.reasons, v_last.differences, v_last.inconsistencies)
            IS NOT DISTINCT FROM (p_verdict, p_reasons, p_differences, p_inconsistencies) THEN
        UPDATE reconciliations AS r
        SET last_compared_at = p_at, comparisons = r.comparisons + 1, calls_spent = r.calls_spent + p_calls_spent,
            details_outstanding = v_outstanding, details_expected_at = v_expected_at
        WHERE r.batch_key = p_batch_key AND r.reconciliation_id = v_last.reconciliation_id;
    ELSE
        INSERT INTO reconciliations (
            batch_key, compared_at, last_compared_at, verdict, reasons, differences, inconsistencies, calls_spent, healed,
            details_outstanding, details_expected_at)
        VALUES (p_batch_key, p_at, p_at, p_verdict, p_reasons, p_differences, p_inconsistencies, p_calls_spent, p_healed,
                v_outstanding, v_expected_at)
        RETURNING * INTO v_last;
    END IF;
    INSERT INTO verdict_history (batch_key, recorded_at, compared_at, verdict_since, reconciliation_id)
    VALUES (p_batch_key, clock_timestamp(), p_at, v_since, v_last.reconciliation_id);
    RETURN true;
END
$$;
