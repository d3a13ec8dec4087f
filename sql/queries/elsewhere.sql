-- name: claim_lease(name, holder, seconds)$
-- Takes a lease for so many seconds; returns whether the holder has it. That is so if it was free, had run out, or was
-- theirs already, or if it runs for so long that the clock must have been set back since.
INSERT INTO leases AS l (name, holder, expires_at)
VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :seconds))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
   OR l.expires_at > excluded.expires_at + interval '1 minute'
RETURNING true;

-- name: note_batches(batch_id, agent_id, name, status, total_recipients, created_at)$
-- Records batches as the provider lists them; returns how many were new or had changed.
SELECT note_batches(
    :batch_id::bigint[], :agent_id::bigint[], :name::text[], :status::text[], :total_recipients::integer[],
    :created_at::timestamptz[]);

-- name: record_list_reading(name, odd_entries, reasons, batch_ids)!
-- Replaces the flaws recorded for one of the provider's lists by those of the latest reading.
INSERT INTO provider_lists AS p (name, read_at, odd_entries, odd_since, reasons, batch_ids)
VALUES (:name, clock_timestamp(), :odd_entries::integer, CASE WHEN :odd_entries > 0 THEN clock_timestamp() END, :reasons, :batch_ids)
ON CONFLICT (name) DO UPDATE
SET read_at = excluded.read_at, odd_entries = excluded.odd_entries, reasons = excluded.reasons,
    batch_ids = excluded.batch_ids,
    odd_since = CASE WHEN excluded.odd_entries > 0 THEN coalesce(p.odd_since, excluded.odd_since) END;

-- name: get_registration(batch_id)^
-- A batch and the progress of its registration.
SELECT b.batch_key, b.batch_id, b.agent_id, b.origin, b.total_recipients, r.step, r.cursor, r.file_digest, r.recipients,
       r.matched, r.withdrawn, r.attributed
FROM batches AS b
LEFT JOIN registrations AS r USING (batch_key)
WHERE b.batch_id = :batch_id;

-- name: begin_registration(batch_key, file_digest, columns, recipients)$
-- Begins a registration, in the transaction that stages its rows; returns null when there is one already.
INSERT INTO registrations AS r (batch_key, step, file_digest, columns, recipients)
VALUES (:batch_key, 'match', :file_digest, :columns, :recipients)
ON CONFLICT (batch_key) DO UPDATE
SET step = 'match', cursor = 0, attributed = 0, file_digest = excluded.file_digest, columns = excluded.columns,
    recipients = excluded.recipients
WHERE r.file_digest IS NULL
RETURNING true;

-- name: register_step(batch_key, rows)$
-- Takes the next step of a registration; returns the step that follows.
SELECT register_step(:batch_key, :rows);

-- name: list_unfinished_registrations()
-- Batches with an unfinished registration.
SELECT b.batch_id FROM registrations AS r JOIN batches AS b USING (batch_key) WHERE r.step <> 'done' ORDER BY batch_key;

-- name: list_placement_jobs(batch_key)
-- Changes that require placing events again, of one batch or of all, oldest first.
SELECT job_id FROM placement_jobs
WHERE :batch_key::bigint IS NULL OR batch_key = :batch_key
ORDER BY job_id;

-- name: placement_step(job_id, rows)$
-- Places the next events of a job again; returns how many got a recipient, null when the job is done.
SELECT placement_step(:job_id, :rows);

-- name: count_attributed(batch_key, placed)!
-- Adds to the number of events that a registration has placed.
UPDATE registrations SET attributed = attributed + :placed WHERE batch_key = :batch_key AND step = 'retry';

-- name: finish_registration(batch_key, file_digest)!
-- Ends a registration when nothing is left to place, unless another file has come since the given one.
WITH finished AS (
    UPDATE registrations SET step = 'done'
    WHERE batch_key = :batch_key AND step = 'retry' AND file_digest IS NOT DISTINCT FROM :file_digest::bytea
      AND NOT EXISTS (SELECT FROM placement_jobs AS j WHERE j.batch_key = registrations.batch_key)
    RETURNING batch_key
)
DELETE FROM staged_recipients USING finished WHERE staged_recipients.batch_key = finished.batch_key;

-- name: count_waiting(agent_id)$
-- The number of unattributed webhooks of an agent.
SELECT count(*) FROM unattributed WHERE agent_id = :agent_id AND is_question(source);
