-- Records which batch an upload became, and how that is known. Returns the upload (batch_key), null if it does not wait for
-- a batch. Raises unique_violation, with the holder's key as its detail, if the batch belongs to another upload that does
-- not give way.
--
-- Better knowledge takes a batch from an upload that held it by a guess (rank_known_by): that upload is unknown again, in
-- the same commit (displaced_key). A person corrects what a lookup had decided about this upload. The provider's answer
-- also corrects what a person or a lookup had decided, as long as the upload was not sent again since (p_sent_at). A batch
-- recorded as made elsewhere, without any recorded call, gives way too. Facts refer to batch_key and stay where they are.
--
-- Entries of the feed that were read with another id, or none, get new positions: p_rows of them in this very commit and
-- the rest step by step. The row of a batch without an id is locked, and its file deleted, before the ingest lock is
-- acquired, so that webhooks wait briefly; no holder of the ingest lock waits for such a row. Rows with an id are locked
-- after it.
CREATE OR REPLACE FUNCTION adopt_batch(
    p_batch_key bigint, p_batch_id bigint, p_status text, p_total_recipients integer, p_created_at timestamptz,
    p_rows integer, p_known_by text, p_sent_at timestamptz,
    OUT batch_key bigint, OUT displaced_key bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_own    batches;
    v_holder batches;
    v_moved  bigint;
BEGIN
    PERFORM FROM batches AS b WHERE b.batch_key = p_batch_key AND b.batch_id IS NULL FOR UPDATE;
    SELECT * INTO v_own FROM batches AS b WHERE b.batch_key = p_batch_key AND b.origin = 'upload';
    IF v_own.batch_id = p_batch_id AND p_known_by = 'answer' AND v_own.known_by = 'answer' AND v_own.sent_at = p_sent_at THEN
        batch_key := p_batch_key;  -- already recorded; the caller did not see the commit
        RETURN;
    ELSIF NOT coalesce(
        (p_sent_at IS NULL OR v_own.sent_at = p_sent_at)
        AND (v_own.upload_state IN ('uploading', 'unknown')
             OR p_known_by = 'person' AND v_own.upload_state = 'uploaded' AND v_own.known_by = 'lookup'
                AND v_own.batch_id <> p_batch_id
             OR p_known_by = 'answer' AND v_own.sent_at = p_sent_at
                AND (v_own.upload_state IN ('failed', 'held', 'prepared')
                     OR v_own.upload_state = 'uploaded' AND rank_known_by(v_own.known_by, v_own.lookups) < 4)), false)
    THEN
        RETURN;
    END IF;
    DELETE FROM held_files AS h WHERE h.batch_key = p_batch_key;
    PERFORM lock_ingest();
    SELECT * INTO v_holder FROM batches AS b WHERE b.batch_id = p_batch_id AND b.batch_key <> p_batch_key FOR UPDATE;
    IF v_holder.origin = 'provider' AND p_known_by IN ('answer', 'person') AND v_holder.recipient_count = 0 THEN
        UPDATE batches AS b
        SET batch_id = NULL, upload_state = 'failed', is_registered = true, closed_at = clock_timestamp(),
            upload_detail = 'it was upload ' || p_batch_key, upload_changed_at = clock_timestamp()
        WHERE b.batch_key = v_holder.batch_key;
        DELETE FROM registrations AS r WHERE r.batch_key = v_holder.batch_key;
    ELSIF v_holder.origin = 'upload' AND p_known_by IS NOT NULL
        AND rank_known_by(p_known_by, 1) > rank_known_by(v_holder.known_by, v_holder.lookups) THEN
        displaced_key := v_holder.batch_key;
        UPDATE batches AS b
        SET upload_state = 'unknown', batch_id = NULL, status = NULL, total_recipients = NULL, created_at = NULL,
            known_by = NULL, upload_changed_at = clock_timestamp(), next_lookup_at = clock_timestamp(),
            upload_detail = format('was linked to batch %s, which is upload %s', p_batch_id, p_batch_key)
        WHERE b.batch_key = displaced_key;
    ELSIF v_holder.batch_key IS NOT NULL THEN
        RAISE unique_violation USING MESSAGE = 'the batch belongs to another', DETAIL = v_holder.batch_key::text;
    END IF;
    UPDATE batches AS b
    SET upload_state = 'uploaded', upload_detail = NULL, upload_changed_at = clock_timestamp(), leased_until = NULL,
        next_lookup_at = NULL, batch_id = p_batch_id, status = p_status, total_recipients = p_total_recipients,
        created_at = p_created_at, known_by = p_known_by
    WHERE b.batch_key = p_batch_key;
    IF v_own.batch_id <> p_batch_id OR v_holder.batch_key IS NOT NULL THEN  -- their comparisons were with another batch
        DELETE FROM batch_schedules AS s WHERE s.batch_key IN (p_batch_key, v_holder.batch_key);
    END IF;
    FOREACH v_moved IN ARRAY array_remove(ARRAY[p_batch_key, displaced_key], NULL) LOOP
        IF EXISTS (SELECT FROM outcomes AS o WHERE o.batch_key = v_moved) THEN
            INSERT INTO feed_moves AS m (batch_key, until_position)
            SELECT v_moved, last_value FROM feed_positions
            ON CONFLICT ON CONSTRAINT feed_moves_pkey
            DO UPDATE SET until_position = excluded.until_position, cursor = 0;
            PERFORM move_feed_entries(v_moved, p_rows);
        END IF;
    END LOOP;
    batch_key := p_batch_key;
END
$$;
