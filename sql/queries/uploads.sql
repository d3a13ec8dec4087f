-- name: begin_upload(agent_id, name, columns, file_digest, ref_token, ref_column, idempotency_key, request_digest, force, lease_seconds, test_name, test_ref_token, promote_at_success_rate, promote_at_goal_rate)^
-- Records that an upload begins, or returns the one that it repeats.
SELECT *
FROM begin_upload(:agent_id, :name, :columns, :file_digest, :ref_token, :ref_column, :idempotency_key, :request_digest,
                  :force, :lease_seconds, :test_name, :test_ref_token, :promote_at_success_rate, :promote_at_goal_rate);

-- name: renew_upload_lease(batch_keys, rows_checked, seconds, sent_at)
-- Renews the lease on uploads that still belong to their owner, records how far the check is, and returns these uploads.
-- With ``sent_at``, the time at which the owner began to send: an upload that was sent again since is not its own any more.
UPDATE batches
SET leased_until = clock_timestamp() + make_interval(secs => :seconds),
    rows_checked = greatest(rows_checked, :rows_checked)
WHERE batch_key = ANY (:batch_keys) AND upload_state IN ('preparing', 'prepared', 'uploading')
  AND (:sent_at::timestamptz IS NULL OR upload_state = 'uploading' AND sent_at = :sent_at)
RETURNING batch_key;

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
FROM binding_columns(:agent_id) AS c
LEFT JOIN batches AS b USING (batch_key)
ORDER BY c.version DESC;

-- name: get_agent_columns(agent_id)^
-- The columns that bind an agent's next file.
SELECT columns FROM binding_columns(:agent_id) ORDER BY version DESC LIMIT 1;

-- name: insert_agent_columns(agent_id, columns, batch_key)$
-- A new version of an agent's columns. Returns its number.
INSERT INTO agent_columns (agent_id, version, columns, batch_key)
SELECT :agent_id, coalesce(max(version), 0) + 1, :columns, :batch_key
FROM agent_columns
WHERE agent_id = :agent_id
RETURNING version;

-- name: record_prepared(batch_key, state, recipient_count, rows_checked)$
-- Ends the storing of recipients: the upload can be sent, or is held. Returns null when it was abandoned meanwhile.
UPDATE batches
SET upload_state = :state, recipient_count = :recipient_count, rows_checked = :rows_checked,
    upload_changed_at = clock_timestamp()
WHERE batch_key = :batch_key AND upload_state = 'preparing'
RETURNING batch_key;

-- name: record_file(batch_keys, rows_digest, people_digest, has_key, force)$
-- Stores the digests of a checked file; or returns the upload that it repeats, and stores nothing. Last in its transaction.
SELECT record_file(:batch_keys, :rows_digest, :people_digest, :has_key, :force);

-- name: find_earlier_upload(agent_id, name, file_digest, rows_digest, people_digest)$
-- The upload that a checked file would repeat; null for none.
SELECT find_earlier_upload(:agent_id, :name, :file_digest, :rows_digest, :people_digest, false, '{}');

-- name: insert_upload_report(batch_key, report, columns, actor, key_id)!
-- What was found in the file of an upload, and who made it; batch_key is that of the main batch.
INSERT INTO upload_reports (batch_key, report, columns, actor, key_id) VALUES (:batch_key, :report, :columns, :actor, :key_id);

-- name: get_upload_file(batch_key)^
-- The columns of an upload's file and who made it, which a test batch shares with its main batch; nothing for an upload without
-- a report. ``actor`` is null for an upload of an earlier version.
SELECT r.columns, r.actor, r.key_id
FROM batches AS b
JOIN upload_reports AS r ON r.batch_key = coalesce(b.campaign_key, b.batch_key)
WHERE b.batch_key = :batch_key;

-- name: has_batch_of_agent(agent_id)$
-- Whether the provider has a batch of this agent, as far as is known: one that it refused is none.
SELECT EXISTS (SELECT FROM batches WHERE agent_id = :agent_id AND batch_id IS NOT NULL);

-- name: list_rejected_rows(batch_key, are_repeats, after, limit)
-- The rows that an upload left out because of errors, or because another row has their person, in the order of its file.
SELECT r.row_no, r.line
FROM batches AS b
JOIN rejected_rows AS r ON r.batch_key = coalesce(b.campaign_key, b.batch_key)
WHERE b.batch_key = :batch_key AND r.is_repeat = :are_repeats AND r.row_no > :after
ORDER BY r.row_no
LIMIT :limit;

-- name: insert_held_file(batch_key, part_no, content)!
-- A part of the file of a held batch.
INSERT INTO held_files (batch_key, part_no, content) VALUES (:batch_key, :part_no, :content);

-- name: has_held_file(batch_key)$
-- Whether the file of a batch is held.
SELECT EXISTS (SELECT FROM held_files WHERE batch_key = :batch_key);

-- name: read_held_file(batch_key)
-- The file of a held batch, part by part.
SELECT content FROM held_files WHERE batch_key = :batch_key ORDER BY part_no;

-- name: begin_sending(batch_key, seconds)^
-- The step before the one that dials. Returns nothing when the upload was abandoned; sent_at null: suppressed people must be
-- withdrawn first.
SELECT * FROM begin_sending(:batch_key, :seconds);

-- name: begin_promotion(batch_id, seconds)^
-- Lets one caller send the main batch behind a test batch. ``main_key`` is null if the batch is not a test batch;
-- ``is_promoted`` says whether it was held until now.
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

-- name: adopt_batch(batch_key, batch_id, status, total_recipients, created_at, rows, known_by, sent_at, actor, key_id, request_id, action, details)^
-- Records which batch an upload became, from the provider's answer or found later, and its lines in the audit log: in one
-- statement, because it takes the ingest lock. batch_key is null when the upload does not wait for a batch;
-- displaced_key is an upload that held the batch by a guess, and is unknown again.
WITH adopted AS MATERIALIZED (
    SELECT * FROM adopt_batch(:batch_key, :batch_id, :status, :total_recipients, :created_at, :rows, :known_by, :sent_at)
), audited AS (
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    SELECT :actor, :key_id, :request_id, :action, 'upload ' || l.key, l.outcome,
           jsonb_build_object('batch_id', :batch_id::bigint, 'known_by', :known_by::text) || :details::jsonb
    FROM adopted AS a
    CROSS JOIN LATERAL (VALUES (a.batch_key, 'uploaded'), (a.displaced_key, 'unknown')) AS l (key, outcome)
    WHERE l.key IS NOT NULL
)
SELECT batch_key, displaced_key FROM adopted;

-- name: record_unknown(batch_key, detail, seconds, sent_at)!
-- Records an upload that was sent without an answer: lookups search for its batch from now on.
UPDATE batches
SET upload_state = 'unknown', upload_detail = :detail, upload_changed_at = clock_timestamp(), leased_until = NULL,
    next_lookup_at = clock_timestamp() + make_interval(secs => :seconds)
WHERE batch_key = :batch_key AND upload_state = 'uploading'
  AND (:sent_at::timestamptz IS NULL OR sent_at = :sent_at);

-- name: fail_upload(batch_key, states, detail, known_by, sent_at)$
-- Records that an upload dialled nobody; returns its new state, or null when it was in none of the given states.
SELECT fail_upload(:batch_key, :states, :detail, :known_by, :sent_at);

-- name: settle_abandoned_uploads()^
-- Settles uploads whose senders are gone.
SELECT * FROM settle_abandoned_uploads();

-- name: claim_lookup(batch_key, seconds)^
-- Claims an unknown upload to look for: the given one, or any that is due. The next lookup waits twice as long as the last,
-- but less than a day: one further ahead was set by a clock that has been set back since.
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
RETURNING b.batch_key;

-- name: list_contenders(batch_key)
-- An upload, and every other one of its agent that has no batch and may have been sent: by its own sender, or although
-- somebody said that it was not. Read this after the provider's list: every batch on the list was being sent before.
-- ``is_known``: webhooks with its references have come in; ``first_call_at``: the time of the first of them.
-- ``has_calls``: calls were attributed to it, by reference or by phone.
SELECT u.batch_key, u.agent_id, u.name, u.recipient_count - u.withdrawn_count AS recipients, u.sent_at,
       u.upload_state AS state, k.first_call_at, k.first_call_at IS NOT NULL AS is_known,
       EXISTS (SELECT FROM facts AS f WHERE f.batch_key = u.batch_key) AS has_calls
FROM batches AS o
JOIN batches AS u ON u.agent_id = o.agent_id AND u.batch_id IS NULL AND u.origin = 'upload'
CROSS JOIN LATERAL (
    SELECT min(coalesce(f.started_at, f.occurred_at, f.recorded_at)) AS first_call_at
    FROM (SELECT * FROM facts WHERE facts.batch_key = u.batch_key AND facts.method = 'reference' AND facts.source = 'webhook'
          ORDER BY facts.recipient_no LIMIT 10000) AS f
) AS k
WHERE o.batch_key = :batch_key
  AND (u.batch_key = o.batch_key OR u.upload_state IN ('uploading', 'unknown')
       OR u.known_by = 'person' AND u.sent_at > coalesce(o.sent_at, o.prepared_at) - interval '1 day')
ORDER BY u.batch_key;

-- name: find_callers(agent_id, batch_keys, phone, started_at, people)^
-- Whose calls these are, as far as phones show. For each of the given uploads in order: ``called`` counts its called phones
-- that are in no other batch of the agent that may have been calling then, ``proven_at`` is when :people of them had been
-- called, ``its_people`` counts all its called phones. ``strangers``: called phones in none of the agent's batches.
WITH calls AS MATERIALIZED (
    SELECT c.phone, min(c.started_at) AS started_at, array_agg(DISTINCT b.batch_key) FILTER (WHERE b.batch_key IS NOT NULL) AS holders
    FROM unnest(:phone::text[], :started_at::timestamptz[]) AS c (phone, started_at)
    LEFT JOIN LATERAL (SELECT r.batch_key FROM recipients AS r WHERE r.phone = c.phone AND r.withdrawn_at IS NULL OFFSET 0) AS r ON true
    LEFT JOIN batches AS b ON b.batch_key = r.batch_key AND b.agent_id = :agent_id
        AND (b.batch_key = ANY (:batch_keys::bigint[])
             OR b.batch_id IS NOT NULL
                AND coalesce(b.sent_at, b.created_at, b.prepared_at)
                    BETWEEN c.started_at - interval '7 days' AND c.started_at + interval '5 minutes')
    GROUP BY c.phone
), counted AS (
    SELECT k.n, count(c.phone) FILTER (WHERE c.holders = ARRAY[k.batch_key]) AS called,
           (array_agg(c.started_at ORDER BY c.started_at) FILTER (WHERE c.holders = ARRAY[k.batch_key]))[:people::integer] AS proven_at,
           count(c.phone) FILTER (WHERE k.batch_key = ANY (c.holders)) AS its_people
    FROM unnest(:batch_keys::bigint[]) WITH ORDINALITY AS k (batch_key, n)
    LEFT JOIN calls AS c ON true
    GROUP BY k.n, k.batch_key
)
SELECT array_agg(called ORDER BY n) AS called, array_agg(proven_at ORDER BY n) AS proven_at,
       array_agg(its_people ORDER BY n) AS its_people,
       (SELECT count(*) FROM calls WHERE holders IS NULL) AS strangers
FROM counted;

-- name: record_lookup(batch_key, detail)!
-- Records what a lookup found that did not settle the upload.
UPDATE batches SET upload_detail = :detail WHERE batch_key = :batch_key AND upload_state = 'unknown';

-- name: select_known_batches(batch_ids)
-- The given batches that are known here, the upload of each (null: made elsewhere), and how that is known.
SELECT b.batch_id, CASE WHEN b.origin = 'upload' THEN b.batch_key END AS upload_id,
       CASE WHEN b.origin = 'upload' THEN read_known_by(b.known_by, b.lookups) END AS known_by
FROM batches AS b
WHERE b.batch_id = ANY (:batch_ids);

-- name: get_upload(batch_key)^
-- One upload.
SELECT b.batch_key AS upload_id, b.upload_state AS state, b.upload_detail AS detail, b.batch_id, b.agent_id, b.name,
       b.recipient_count - b.withdrawn_count AS recipients, b.withdrawn_count AS withdrawn, b.rows_checked,
       b.campaign_key AS campaign_id, b.campaign_role, b.promote_at_success_rate, b.promote_at_goal_rate,
       b.prepared_at, b.sent_at, b.upload_changed_at AS changed_at, b.lookups,
       b.next_lookup_at,
       ARRAY(SELECT w.batch_id FROM withheld_batches AS w
             WHERE w.upload_key = b.batch_key AND b.upload_state = 'unknown' ORDER BY w.batch_id LIMIT 100) AS withheld_batches,
       (SELECT r.report FROM upload_reports AS r WHERE r.batch_key = coalesce(b.campaign_key, b.batch_key)) AS file
FROM batches AS b
WHERE b.batch_key = :batch_key AND b.origin = 'upload';

-- name: find_withholder(batch_id)$
-- The unknown upload that a batch of the provider may be, which is why the batch is not shown.
SELECT w.upload_key
FROM withheld_batches AS w
JOIN batches AS u ON u.batch_key = w.upload_key AND u.upload_state = 'unknown'
WHERE w.batch_id = :batch_id;

-- name: get_upload_agent(batch_key)$
-- The agent of an upload.
SELECT b.agent_id FROM batches AS b WHERE b.batch_key = :batch_key;

-- name: list_uploads(state, before, limit)
-- Uploads by their state, newest first, before a given one.
SELECT b.batch_key AS upload_id, b.upload_state AS state, b.upload_detail AS detail, b.batch_id, b.agent_id, b.name,
       b.recipient_count - b.withdrawn_count AS recipients, b.withdrawn_count AS withdrawn, b.rows_checked,
       b.campaign_key AS campaign_id, b.campaign_role, b.promote_at_success_rate, b.promote_at_goal_rate,
       b.prepared_at, b.sent_at, b.upload_changed_at AS changed_at, b.lookups,
       b.next_lookup_at,
       ARRAY(SELECT w.batch_id FROM withheld_batches AS w
             WHERE w.upload_key = b.batch_key AND b.upload_state = 'unknown' ORDER BY w.batch_id LIMIT 100) AS withheld_batches,
       (SELECT r.report FROM upload_reports AS r WHERE r.batch_key = coalesce(b.campaign_key, b.batch_key)) AS file
FROM batches AS b
WHERE (:state::text IS NULL OR b.upload_state = :state) AND b.batch_key < :before AND b.origin = 'upload'
ORDER BY b.batch_key DESC
LIMIT :limit;

-- name: list_due_promotions()
-- Complete test batches that have reached the success rate and the goal rate at which their main batch is sent, while that
-- is still held. A goal that is being counted, or was removed, has no rate. Results that are still to be fetched can only add
-- to it.
-- After a refusal by the provider, the main batch waits for five minutes.
SELECT t.batch_id
FROM batches AS m
JOIN batches AS t ON t.campaign_key = m.campaign_key AND t.campaign_role = 'test'
JOIN batch_schedules AS s ON s.batch_key = t.batch_key
WHERE m.upload_state = 'held' AND s.verdict = 'complete' AND NOT EXISTS (SELECT FROM find_spilled())
  AND coalesce(m.promote_at_success_rate, m.promote_at_goal_rate) IS NOT NULL
  AND (m.upload_detail IS NULL OR m.upload_changed_at < clock_timestamp() - interval '5 minutes')
  AND shown_total(t) > 0
  AND 100.0 * (SELECT coalesce(sum(c.recipients), 0) FROM outcome_counts AS c
               WHERE c.batch_key = t.batch_key AND c.state = 'completed') / shown_total(t)
      >= coalesce(m.promote_at_success_rate, 0)
  AND (m.promote_at_goal_rate IS NULL
       OR 100.0 * (SELECT g.recipients FROM count_goal(t.batch_key) AS g) / shown_total(t) >= m.promote_at_goal_rate);

-- name: list_ref_columns()
-- The columns in which references of batches come back, the latest first.
SELECT ref_column FROM batches WHERE ref_column IS NOT NULL GROUP BY ref_column ORDER BY max(batch_key) DESC;
