-- Records that an upload begins, unless it is known already; one transaction decides between concurrent callers. Returns
-- the batch that will be sent first (batch_key), the main batch behind a test batch (main_key, else null), or why not: the
-- earlier upload's key and a refusal, which is
--
--   repeated     the same idempotency key and request: answer with the earlier result
--   key_reused   the same idempotency key with another request
--   duplicate    it would repeat an upload whatever its key: see find_earlier_upload(), and record_file(), which asks the
--                same once the file is checked
--
-- With a test batch the file belongs to the main batch, and the caller's key to the test batch, which is sent at once.
-- The version without p_promote_at_goal_rate goes first: the version of the service before then calls this one.
DROP FUNCTION IF EXISTS begin_upload(
    bigint, text, text[], bytea, text, text, text, bytea, boolean, double precision, text, text, numeric);
CREATE OR REPLACE FUNCTION begin_upload(
    p_agent_id bigint, p_name text, p_columns text[], p_file_digest bytea, p_ref_token text, p_ref_column text,
    p_idempotency_key text, p_request_digest bytea, p_force boolean, p_lease_seconds double precision,
    p_test_name text, p_test_ref_token text, p_promote_at_success_rate numeric,
    p_promote_at_goal_rate numeric DEFAULT NULL,
    OUT batch_key bigint, OUT main_key bigint, OUT earlier_key bigint, OUT refusal text
)
LANGUAGE plpgsql
AS $$
DECLARE
    v_earlier batches;
    v_leased_until CONSTANT timestamptz := clock_timestamp() + make_interval(secs => p_lease_seconds);
BEGIN
    LOCK TABLE uploads_lock IN SHARE UPDATE EXCLUSIVE MODE;
    IF p_idempotency_key IS NOT NULL THEN
        SELECT * INTO v_earlier FROM batches AS b WHERE b.idempotency_key = p_idempotency_key;
        IF v_earlier.upload_state = 'uploaded' AND v_earlier.prepared_at < clock_timestamp() - interval '24 hours' THEN
            UPDATE batches AS b SET idempotency_key = NULL WHERE b.batch_key = v_earlier.batch_key;
            v_earlier := NULL;
        END IF;
    END IF;
    earlier_key := v_earlier.batch_key;
    IF earlier_key IS NOT NULL THEN
        refusal := CASE WHEN v_earlier.request_digest = p_request_digest THEN 'repeated' ELSE 'key_reused' END;
        RETURN;
    END IF;
    IF NOT p_force THEN
        earlier_key := find_earlier_upload(p_agent_id, p_name, p_file_digest, NULL, NULL, p_idempotency_key IS NOT NULL, '{}');
        IF earlier_key IS NOT NULL THEN
            refusal := 'duplicate';
            RETURN;
        END IF;
    END IF;

    INSERT INTO batches AS b (agent_id, name, upload_state, ref_token, ref_column, columns, file_digest, leased_until,
                              rows_checked, idempotency_key, request_digest, promote_at_success_rate,
                              promote_at_goal_rate)
    VALUES (p_agent_id, p_name, 'preparing', p_ref_token, p_ref_column, p_columns, p_file_digest, v_leased_until, 0,
            CASE WHEN p_test_name IS NULL THEN p_idempotency_key END, p_request_digest, p_promote_at_success_rate,
            p_promote_at_goal_rate)
    RETURNING b.batch_key INTO batch_key;
    IF p_test_name IS NOT NULL THEN
        main_key := batch_key;
        UPDATE batches AS b SET campaign_key = main_key, campaign_role = 'main' WHERE b.batch_key = main_key;
        INSERT INTO batches AS b (agent_id, name, upload_state, ref_token, ref_column, columns, file_digest,
                                  leased_until, idempotency_key, request_digest, campaign_key, campaign_role)
        VALUES (p_agent_id, p_test_name, 'preparing', p_test_ref_token, p_ref_column, p_columns, p_file_digest,
                v_leased_until, p_idempotency_key, p_request_digest, main_key, 'test')
        RETURNING b.batch_key INTO batch_key;
    END IF;
END
$$;
