-- name: begin_upload(agent_id, name, columns, file_digest, ref_token, ref_column, idempotency_key, request_digest, force, lease_seconds, test_name, test_ref_token, promote_at_success_rate)^
-- Takes down that an upload begins, or tells which one it repeats.
SELECT *
FROM begin_upload(:agent_id, :name, :columns, :file_digest, :ref_token, :ref_column, :idempotency_key, :request_digest,
                  :force, :lease_seconds, :test_name, :test_ref_token, :promote_at_success_rate);

-- name: renew_upload_lease(batch_keys, rows_checked, seconds)!
-- Says that somebody works on an upload still, and how far its check is.
UPDATE batches
SET leased_until = clock_timestamp() + make_interval(secs => :seconds), rows_checked = :rows_checked
WHERE batch_key = ANY (:batch_keys) AND upload_state IN ('preparing', 'prepared', 'uploading');

-- name: discard_upload(batch_keys)!
-- An upload whose file cannot be used leaves nothing behind.
DELETE FROM batches WHERE batch_key = ANY (:batch_keys) AND upload_state = 'preparing';

-- name: lock_agent_columns(agent_id)!
-- Lets one transaction at a time compare and change an agent's columns.
INSERT INTO agent_columns_locks (agent_id) VALUES (:agent_id)
ON CONFLICT (agent_id) DO UPDATE SET agent_id = excluded.agent_id;

-- name: list_agent_columns(agent_id)
-- An agent's columns, the binding version first.
SELECT c.version, c.columns, c.accepted_at, c.batch_key AS upload_id, b.batch_id
FROM agent_columns AS c
LEFT JOIN batches AS b USING (batch_key)
WHERE c.agent_id = :agent_id
ORDER BY c.version DESC;

-- name: get_agent_columns(agent_id)^
-- The columns that bind an agent's next file.
SELECT version, columns FROM agent_columns WHERE agent_id = :agent_id ORDER BY version DESC LIMIT 1;

-- name: insert_agent_columns(agent_id, version, columns, batch_key)!
-- A new version of an agent's columns.
INSERT INTO agent_columns (agent_id, version, columns, batch_key) VALUES (:agent_id, :version, :columns, :batch_key);

-- name: record_prepared(batch_key, state, recipient_count, rows_checked)$
-- Closes the storing of recipients: the upload can be sent, or is held. Null when it was given up meanwhile.
UPDATE batches
SET upload_state = :state, recipient_count = :recipient_count, rows_checked = :rows_checked,
    upload_changed_at = clock_timestamp()
WHERE batch_key = :batch_key AND upload_state = 'preparing'
RETURNING batch_key;

-- name: insert_held_file(batch_key, part_no, content)!
-- A part of the file of a held batch.
INSERT INTO held_files (batch_key, part_no, content) VALUES (:batch_key, :part_no, :content);

-- name: read_held_file(batch_key)
-- The file of a held batch, part by part.
SELECT content FROM held_files WHERE batch_key = :batch_key ORDER BY part_no;

-- name: begin_sending(batch_key, seconds)^
-- The step before the one that dials: from here on the upload is never begun again. None when it was given up meanwhile.
UPDATE batches
SET upload_state = 'uploading', upload_detail = NULL, upload_changed_at = clock_timestamp(), sent_at = clock_timestamp(),
    leased_until = clock_timestamp() + make_interval(secs => :seconds)
WHERE batch_key = :batch_key AND upload_state = 'prepared'
RETURNING agent_id, name;

-- name: begin_promotion(batch_id, seconds)^
-- Lets one caller send the main batch behind a test batch. ``main_key`` is null where the batch is no test batch, and
-- ``is_promoted`` tells whether it was held until now.
WITH main AS MATERIALIZED (
    SELECT m.batch_key, m.upload_state, m.batch_id
    FROM batches AS t
    JOIN batches AS m ON m.batch_key = t.campaign_key
    WHERE t.batch_id = :batch_id AND t.campaign_role = 'test'
), promoted AS (
    UPDATE batches AS b
    SET upload_state = 'prepared', upload_changed_at = clock_timestamp(),
        leased_until = clock_timestamp() + make_interval(secs => :seconds)
    FROM main
    WHERE b.batch_key = main.batch_key AND b.upload_state = 'held'
    RETURNING b.batch_key
)
SELECT main.batch_key AS main_key, main.upload_state, main.batch_id,
       EXISTS (SELECT FROM promoted) AS is_promoted
FROM (SELECT 1) AS one
LEFT JOIN main ON true;

-- name: record_uploaded(batch_key, batch_id, status, total_recipients, created_at, rows, actor, key_id, request_id, action)$
-- The provider's answer to an upload, given or found later, and its line in the audit log: one statement, since it takes
-- the ingest lock. Null when the upload is not one that waits for it.
WITH recorded AS MATERIALIZED (
    SELECT record_uploaded(:batch_key, :batch_id, :status, :total_recipients, :created_at, :rows) AS batch_key
), audited AS (
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    SELECT :actor, :key_id, :request_id, :action, 'upload ' || batch_key, 'uploaded',
           json_build_object('batch_id', :batch_id::bigint)
    FROM recorded
    WHERE batch_key IS NOT NULL
)
SELECT batch_key FROM recorded;

-- name: record_unknown(batch_key, detail, seconds)!
-- Sent, and no answer: it is looked for from now on.
UPDATE batches
SET upload_state = 'unknown', upload_detail = :detail, upload_changed_at = clock_timestamp(), leased_until = NULL,
    next_lookup_at = clock_timestamp() + make_interval(secs => :seconds)
WHERE batch_key = :batch_key AND upload_state = 'uploading';

-- name: fail_upload(batch_key, states, detail)$
-- Nobody was dialled; the state that came of it, or null when the upload was in none of the given states.
SELECT fail_upload(:batch_key, :states, :detail);

-- name: settle_abandoned_uploads()^
-- What is left of uploads whose senders are gone.
SELECT * FROM settle_abandoned_uploads();

-- name: claim_lookup(batch_key, seconds)^
-- Takes an unknown upload to look for: the given one, or any that is due. The next lookup waits twice as long as the last,
-- never a day: one that is further ahead was put there by a clock that has been set back since.
UPDATE batches AS b
SET lookups = b.lookups + 1,
    next_lookup_at = clock_timestamp() + make_interval(secs => :seconds * 2 ^ least(b.lookups, 12))
FROM (
    SELECT batch_key
    FROM batches
    WHERE upload_state = 'unknown'
      AND (batch_key = :batch_key OR (:batch_key::bigint IS NULL AND (next_lookup_at <= clock_timestamp() OR next_lookup_at > clock_timestamp() + interval '1 day')))
    ORDER BY next_lookup_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS due
WHERE b.batch_key = due.batch_key
RETURNING b.batch_key, b.agent_id, b.name, b.recipient_count - b.withdrawn_count AS recipient_count, b.sent_at,
    EXISTS (SELECT FROM facts AS f WHERE f.batch_key = b.batch_key) AS has_events,
    (SELECT count(*) FROM batches AS r
     WHERE r.upload_state = 'unknown' AND r.agent_id = b.agent_id AND r.name = b.name
       AND r.recipient_count - r.withdrawn_count = b.recipient_count - b.withdrawn_count AND r.batch_key <> b.batch_key) AS rivals;

-- name: record_lookup(batch_key, detail)!
-- What a lookup found that did not settle the upload.
UPDATE batches SET upload_detail = :detail WHERE batch_key = :batch_key AND upload_state = 'unknown';

-- name: select_known_batches(batch_ids)
-- Which of the provider's batches are known here.
SELECT batch_id FROM batches WHERE batch_id = ANY (:batch_ids);

-- name: get_upload(batch_key)^
-- One upload.
SELECT b.batch_key AS upload_id, b.upload_state AS state, b.upload_detail AS detail, b.batch_id, b.agent_id, b.name,
       b.recipient_count - b.withdrawn_count AS recipients, b.rows_checked, b.campaign_key AS campaign_id, b.campaign_role,
       b.promote_at_success_rate, b.prepared_at, b.sent_at, b.upload_changed_at AS changed_at, b.lookups,
       b.next_lookup_at
FROM batches AS b
WHERE b.batch_key = :batch_key AND b.origin = 'upload';

-- name: list_uploads(state, before, limit)
-- Uploads by their state, newest first, before a given one.
SELECT b.batch_key AS upload_id, b.upload_state AS state, b.upload_detail AS detail, b.batch_id, b.agent_id, b.name,
       b.recipient_count - b.withdrawn_count AS recipients, b.rows_checked, b.campaign_key AS campaign_id, b.campaign_role,
       b.promote_at_success_rate, b.prepared_at, b.sent_at, b.upload_changed_at AS changed_at, b.lookups,
       b.next_lookup_at
FROM batches AS b
WHERE (:state::text IS NULL OR b.upload_state = :state) AND b.batch_key < :before AND b.origin = 'upload'
ORDER BY b.batch_key DESC
LIMIT :limit;

-- name: list_due_promotions()
-- Test batches that are complete with the success rate at which their main batch is to be sent, and it is held still.
-- One that the provider refused to take waits for five minutes.
SELECT t.batch_id
FROM batches AS m
JOIN batches AS t ON t.campaign_key = m.campaign_key AND t.campaign_role = 'test'
JOIN batch_schedules AS s ON s.batch_key = t.batch_key
WHERE m.upload_state = 'held' AND m.promote_at_success_rate IS NOT NULL AND s.verdict = 'complete'
  AND (m.upload_detail IS NULL OR m.upload_changed_at < clock_timestamp() - interval '5 minutes')
  AND shown_total(t) > 0
  AND 100.0 * (SELECT coalesce(sum(c.recipients), 0) FROM outcome_counts AS c
               WHERE c.batch_key = t.batch_key AND c.state = 'completed') / shown_total(t)
      >= m.promote_at_success_rate;
