-- name: reserve_batch_key()$
-- The key of a batch whose recipients are written before it is stored.
SELECT nextval(pg_get_serial_sequence('batches', 'batch_key'));

-- name: insert_batch(batch_key, agent_id, name, ref_token, ref_column, columns, file_digest)!
-- A batch that is about to be uploaded; its recipients follow in the same transaction.
INSERT INTO batches (batch_key, agent_id, name, upload_state, ref_token, ref_column, columns, file_digest)
OVERRIDING SYSTEM VALUE
VALUES (:batch_key, :agent_id, :name, 'prepared', :ref_token, :ref_column, :columns, :file_digest);

-- name: set_recipient_count(recipient_count, batch_key)!
-- Closes the storing of recipients.
UPDATE batches SET recipient_count = :recipient_count WHERE batch_key = :batch_key;

-- name: set_upload_state(state, detail, batch_key)!
-- The next step of an upload, with what is known about it.
UPDATE batches SET upload_state = :state, upload_detail = :detail, upload_changed_at = clock_timestamp()
WHERE batch_key = :batch_key;

-- name: record_uploaded(batch_id, status, total_recipients, created_at, batch_key)!
-- The provider's answer to an upload.
UPDATE batches
SET upload_state = 'uploaded', upload_detail = NULL, upload_changed_at = clock_timestamp(), batch_id = :batch_id,
    status = :status, total_recipients = :total_recipients, created_at = :created_at
WHERE batch_key = :batch_key;

-- name: mark_stale_uploads(seconds)$
-- Uploads whose sender must be gone: what came of them is unknown.
WITH stale AS (
    UPDATE batches
    SET upload_state = 'unknown', upload_detail = 'the service stopped while it was being sent',
        upload_changed_at = clock_timestamp()
    WHERE upload_state = 'uploading'
      AND upload_changed_at < clock_timestamp() - make_interval(secs => :seconds)
    RETURNING 1
)
SELECT count(*) FROM stale;

-- name: list_uploads(state, before, limit)
-- Uploads by their state, newest first, before a given one.
SELECT batch_key AS upload_id, upload_state AS state, upload_detail AS detail, batch_id, agent_id, name,
       recipient_count AS recipients, prepared_at, upload_changed_at AS changed_at
FROM batches
WHERE (:state::text IS NULL OR upload_state = :state) AND batch_key < :before
ORDER BY batch_key DESC
LIMIT :limit;

-- name: list_batches(agent_id, limit, offset)
-- The batches that the provider knows, newest first.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count) AS total_recipients,
       coalesce(created_at, prepared_at) AS created_at
FROM batches
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
ORDER BY batch_id DESC
LIMIT :limit OFFSET :offset;

-- name: count_batches(agent_id)$
-- How many there are in all.
SELECT count(*) FROM batches
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id);

-- name: get_batch(batch_id)^
-- One batch.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count) AS total_recipients,
       coalesce(created_at, prepared_at) AS created_at
FROM batches
WHERE batch_id = :batch_id;
