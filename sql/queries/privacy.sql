-- name: preview_erasure(phone)^
-- What an erasure would remove: recipients, unattributed events, and rows in the files of held batches.
SELECT (SELECT count(*) FROM recipients WHERE phone = :phone) AS recipients,
       (SELECT count(*) FROM recipients AS r
        JOIN facts AS f ON f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no
        WHERE r.phone = :phone) AS attempts,
       (SELECT count(*) FROM unattributed WHERE phone = :phone) AS unattributed,
       (SELECT count(*) FROM recipients AS r
        WHERE r.phone = :phone AND EXISTS (SELECT FROM held_files AS h WHERE h.batch_key = r.batch_key)) AS held_rows;

-- name: begin_erasure(phone, actor, key_id, request_id)$
-- Begins an erasure, or restarts one that is under way; returns its id.
SELECT begin_erasure(:phone, :actor, :key_id, :request_id);

-- name: reopen_erasures(batch_key)!
-- Restarts the erasures of erased people who appear in a file that is being registered.
SELECT reopen_erasures(:batch_key);

-- name: erase_step(erasure_id, rows)$
-- Takes the next step of an erasure; returns the step that follows, or finished to the caller that ends it.
SELECT erase_step(:erasure_id, :rows);

-- name: get_erasure_work(erasure_id)^
-- The next step of an erasure, and its person; ``is_checking``: a file that may hold the person is still being checked.
SELECT name_erasure_step(e) AS step, cursor, phone,
       EXISTS (SELECT FROM batches AS b WHERE b.upload_state = 'preparing' AND b.prepared_at <= e.requested_at) AS is_checking
FROM erasures AS e
WHERE erasure_id = :erasure_id;

-- name: read_rejected_rows(after, row_no, rows)
-- The next rejected rows, of any upload.
SELECT batch_key, row_no, line
FROM rejected_rows
WHERE (batch_key, row_no) > (:after, :row_no)
ORDER BY batch_key, row_no
LIMIT :rows;

-- name: delete_rejected_row(batch_key, row_no)!
-- Deletes a rejected row that names an erased person.
DELETE FROM rejected_rows WHERE batch_key = :batch_key AND row_no = :row_no;

-- name: note_calling_code(calling_code)!
-- Records the country code of an erased person.
INSERT INTO erased_calling_codes (calling_code) VALUES (:calling_code) ON CONFLICT DO NOTHING;

-- name: read_unsearched(step, after, rows, bytes)
-- The next bodies that a step of an erasure has to search, and the numbers that their calls were made from.
SELECT id, body, phone, from_phone FROM read_unsearched(:step, :after, :rows, :bytes);

-- name: erase_named(erasure_id, step, after, last, named, read, callers)$
-- Erases the bodies that name the person and the calls that the person made, and records the step's progress; returns the
-- step that follows.
SELECT erase_named(:erasure_id, :step, :after, :last, :named::bigint[], :read, :callers::bigint[]);

-- name: get_erasure(erasure_id)^
-- The progress of an erasure, without the person; its hash is the same for the same person.
SELECT erasure_id, left(encode(phone_hash, 'hex'), 16) AS person, name_erasure_step(e) AS step, requested_at, finished_at, recipients, bodies,
       unattributed, quarantined, held_rows, bodies_read, actor, key_id
FROM erasures AS e
WHERE erasure_id = :erasure_id;

-- name: list_unfinished_erasures(limit)
-- Unfinished erasures.
SELECT erasure_id FROM erasures WHERE step <> 'done' ORDER BY erasure_id LIMIT :limit;

-- name: list_held_batches(erasure_id)
-- Held files that may contain a row of a person whose recipients are erased.
SELECT DISTINCT k.batch_key, e.phone
FROM erasures AS e
JOIN erased_recipients AS k ON k.phone_hash = e.phone_hash
WHERE e.erasure_id = :erasure_id AND e.phone IS NOT NULL
  AND EXISTS (SELECT FROM held_files AS h WHERE h.batch_key = k.batch_key);

-- name: lock_upload(batch_key)^
-- The state of an upload, locked until the transaction ends.
SELECT upload_state FROM batches WHERE batch_key = :batch_key FOR UPDATE;

-- name: delete_held_file(batch_key)!
-- Removes the file of a held batch, to be replaced in the same transaction.
DELETE FROM held_files WHERE batch_key = :batch_key;

-- name: withdraw_held_recipients(batch_key, erasure_id)$
-- Records that the erased recipients of a held batch will not be sent; returns their number.
SELECT withdraw_unsent(:batch_key, ARRAY(
    SELECT k.recipient_no
    FROM erased_recipients AS k
    JOIN erasures AS e ON e.phone_hash = k.phone_hash
    WHERE e.erasure_id = :erasure_id AND k.batch_key = :batch_key));

-- name: end_held_step(erasure_id, rows)!
-- Records that no held file contains the person any more.
UPDATE erasures SET step = 'late', cursor = 0, held_rows = held_rows + :rows WHERE erasure_id = :erasure_id AND step = 'held';

-- name: list_erased_phones()
-- The tombstones: keyed hashes of phones, and when each was erased.
SELECT encode(phone_hash, 'hex') AS phone_hash, erased_at FROM erased_phones ORDER BY erased_at, phone_hash;

-- name: get_erasure_key_mark()$
-- A mark that distinguishes two erasure keys, and reveals nothing else about them.
SELECT left(encode(hash_person('key', 'mark'), 'hex'), 16);

-- name: repeat_erasures(phone_hashes, erased_at, actor)$
-- Restarts the erasures that a restore has undone; returns how many.
SELECT repeat_erasures(:phone_hashes::bytea[], :erased_at::timestamptz[], :actor);
