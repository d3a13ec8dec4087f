-- Takes down the provider's answer to an upload, given or found later. Null when the upload is not one that waits for it.
--
-- Calls may have been told of before the answer came, and their entries read from the feed without the batch's id: these
-- get new positions, p_rows of them in this very commit and the rest step by step. The batch's row is locked before the
-- ingest lock is asked for, and the file given up, so that webhooks wait for little; nothing that holds the ingest lock
-- asks for the row of a batch without an id.
CREATE OR REPLACE FUNCTION record_uploaded(
    p_batch_key bigint, p_batch_id bigint, p_status text, p_total_recipients integer, p_created_at timestamptz,
    p_rows integer
)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM batches WHERE batch_key = p_batch_key AND upload_state IN ('uploading', 'unknown') FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM held_files WHERE batch_key = p_batch_key;
    PERFORM lock_ingest();
    UPDATE batches
    SET upload_state = 'uploaded', upload_detail = NULL, upload_changed_at = clock_timestamp(), leased_until = NULL,
        next_lookup_at = NULL, batch_id = p_batch_id, status = p_status, total_recipients = p_total_recipients,
        created_at = p_created_at
    WHERE batch_key = p_batch_key;
    IF EXISTS (SELECT FROM outcomes WHERE batch_key = p_batch_key) THEN
        INSERT INTO feed_moves (batch_key, until_position) SELECT p_batch_key, last_value FROM feed_positions;
        PERFORM move_feed_entries(p_batch_key, p_rows);
    END IF;
    RETURN p_batch_key;
END
$$;
