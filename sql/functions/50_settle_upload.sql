-- Sets the state of an upload that has dialled nobody, and will not. A main batch is held again, so that it can be promoted
-- once more, as long as its file is there. Any other upload has failed: it gives up its idempotency key, and the main batch
-- behind it fails too. p_sent_at: only if it was not sent again since, which a paused sender does not know.
--
-- An upload whose references came in was sent, whatever speaks against it: it is 'unknown'. The ingest lock makes sure that
-- an ingest either sees the state that this leaves or is seen here. The row is locked first, as in adopt_batch().
CREATE OR REPLACE FUNCTION fail_upload(
    p_batch_key bigint, p_states text[], p_detail text, p_known_by text DEFAULT NULL, p_sent_at timestamptz DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_state text;
BEGIN
    PERFORM FROM batches AS b
    WHERE b.batch_key = p_batch_key AND b.upload_state = ANY (p_states) AND (p_sent_at IS NULL OR b.sent_at = p_sent_at)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM lock_ingest();
    IF EXISTS (SELECT FROM reference_batches AS k WHERE k.batch_key = p_batch_key) THEN
        UPDATE batches AS b
        SET upload_state = 'unknown', upload_changed_at = clock_timestamp(), leased_until = NULL,
            next_lookup_at = clock_timestamp(),
            upload_detail = 'calls with its references came in, so it was sent, although: ' || p_detail
        WHERE b.batch_key = p_batch_key;
        RETURN 'unknown';
    END IF;
    WITH failed AS (
        UPDATE batches
        SET upload_state = CASE WHEN campaign_role = 'main' AND EXISTS (SELECT FROM held_files AS h WHERE h.batch_key = p_batch_key)
                                THEN 'held' ELSE 'failed' END,
            upload_detail = p_detail, upload_changed_at = clock_timestamp(), leased_until = NULL, next_lookup_at = NULL,
            idempotency_key = NULL, known_by = p_known_by
        WHERE batch_key = p_batch_key
        RETURNING upload_state, campaign_key, campaign_role
    ), followed AS (
        UPDATE batches AS b
        SET upload_state = 'failed', upload_detail = 'its test batch failed: ' || p_detail,
            upload_changed_at = clock_timestamp(), leased_until = NULL
        FROM failed AS f
        WHERE f.campaign_role = 'test' AND b.batch_key = f.campaign_key AND b.upload_state IN ('preparing', 'held')
    ), emptied AS (
        DELETE FROM held_files AS h
        USING failed AS f
        WHERE f.campaign_role = 'test' AND h.batch_key = f.campaign_key
    )
    SELECT upload_state INTO v_state FROM failed;
    RETURN v_state;
END
$$;

-- Settles uploads whose owners are gone: before sending began nothing was sent, and the outcome of the rest is unknown.
-- An owner relies on its lease for a third of its time, so one whose lease has expired cannot send any more: an unknown
-- upload is not being sent.
-- A lease of an hour comes from a clock that has been set back since. Returns how many there were of each.
CREATE OR REPLACE FUNCTION settle_abandoned_uploads(OUT failed bigint, OUT unknown bigint)
LANGUAGE sql
AS $$
WITH abandoned AS MATERIALIZED (
    SELECT batch_key, upload_state
    FROM batches
    WHERE upload_state IN ('preparing', 'prepared', 'uploading')
      AND (leased_until IS NULL OR leased_until < clock_timestamp() OR leased_until > clock_timestamp() + interval '1 hour')
    ORDER BY batch_key
    FOR UPDATE SKIP LOCKED
), failing AS (
    SELECT fail_upload(batch_key, ARRAY['preparing', 'prepared'],
                       'the service stopped before anything was sent: upload or promote it again', NULL, NULL) AS state
    FROM abandoned
    WHERE upload_state <> 'uploading'
), losing AS (
    UPDATE batches AS b
    SET upload_state = 'unknown', upload_detail = 'the service stopped while it was being sent',
        upload_changed_at = clock_timestamp(), leased_until = NULL, next_lookup_at = clock_timestamp()
    FROM abandoned AS a
    WHERE b.batch_key = a.batch_key AND a.upload_state = 'uploading' AND b.upload_state = 'uploading'
    RETURNING 1
)
SELECT (SELECT count(state) FROM failing WHERE state <> 'unknown'),
       (SELECT count(*) FROM losing) + (SELECT count(*) FROM failing WHERE state = 'unknown')
$$;
