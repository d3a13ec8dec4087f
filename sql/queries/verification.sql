-- name: list_batch_keys(batch_id)
-- Batches by key, with the number of recipients of each; one by its id, or all.
SELECT batch_key, batch_id, agent_id, recipient_count FROM batches
WHERE :batch_id::bigint IS NULL OR batch_id = :batch_id
ORDER BY batch_key;

-- name: begin_full_verification()$
-- The id of the full run that was stopped last or, if there is none, of a new one.
WITH stopped AS (
    SELECT run_id FROM full_verifications WHERE completed_at IS NULL ORDER BY run_id DESC LIMIT 1
), begun AS (
    INSERT INTO full_verifications (completed_at) SELECT NULL::timestamptz WHERE NOT EXISTS (SELECT FROM stopped)
    RETURNING run_id
)
SELECT run_id FROM stopped UNION ALL SELECT run_id FROM begun;

-- name: complete_full_verification(run_id)!
-- Ends a full run.
UPDATE full_verifications SET completed_at = clock_timestamp() WHERE run_id = :run_id;

-- name: list_unverified_batches(full_run_id, after, limit)
-- Batches by key that have changed since their last verification or, in a full run, that it has not verified yet. Reads
-- batches, and none of their events.
SELECT b.batch_key, b.batch_id, b.agent_id, b.recipient_count
FROM batches AS b
LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
LEFT JOIN verifications AS v ON v.batch_key = b.batch_key
WHERE b.batch_key > :after
  AND ((v.revision, v.recipient_count) IS DISTINCT FROM (coalesce(a.revision, 0), b.recipient_count)
       OR (:full_run_id::bigint IS NOT NULL AND v.full_run_id IS DISTINCT FROM :full_run_id))
ORDER BY b.batch_key
LIMIT :limit;

-- name: get_batch_revision(batch_key)$
-- The batch's revision; 0 if it has no event.
SELECT coalesce((SELECT revision FROM batch_activity WHERE batch_key = :batch_key), 0);

-- name: record_verification(batch_key, revision, recipient_count, full_run_id)!
-- A batch was found without a difference. What changes it later makes its revision another one.
INSERT INTO verifications AS v (batch_key, revision, recipient_count, full_run_id, verified_at)
VALUES (:batch_key, :revision, :recipient_count, :full_run_id, clock_timestamp())
ON CONFLICT (batch_key) DO UPDATE
SET revision = excluded.revision, recipient_count = excluded.recipient_count,
    full_run_id = coalesce(excluded.full_run_id, v.full_run_id), verified_at = excluded.verified_at;

-- name: get_sample_bounds()^
-- The last ids of what is sampled.
SELECT (SELECT last_value FROM arrival_ids) AS last_arrival,
       (SELECT coalesce(max(arrival_id), 0) FROM unattributed) AS last_waiting,
       (SELECT coalesce(max(arrival_id), 0) FROM other_events) AS last_other,
       (SELECT coalesce(max(quarantine_id), 0) FROM quarantine WHERE replayed_at IS NULL) AS last_quarantined;

-- name: find_place_key(after)^
-- Agent and phone of the next event without a reference.
SELECT agent_id, phone FROM unreferenced_events WHERE arrival_id > :after ORDER BY arrival_id LIMIT 1;

-- name: begin_recount()$
-- Creates the temporary table of a recount, in the recount's transaction.
SELECT begin_recount();

-- name: recount_step(batch_key, after, limit, as_of)
-- Recounts some recipients; returns those whose outcome differs from their facts. With :as_of, as of that time.
SELECT recipient_no, stored, recounted FROM recount_step(:batch_key, :after, :limit, :as_of);

-- name: list_counter_errors(batch_key)
-- The counters that differ from the recount.
SELECT * FROM list_counter_errors(:batch_key);

-- name: lock_rebuild()!
-- Refuses when another rebuild runs; holds the lock until this transaction ends.
LOCK TABLE rebuild_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;

-- name: rebuild_outcomes(batch_key, after, limit)$
-- Repairs the outcomes of some recipients; returns how many were wrong.
SELECT rebuild_outcomes(:batch_key, :after, :limit);

-- name: rebuild_counters(batch_key, counters, a, b, c, recipients, talked, talk_seconds, actor, key_id, outcome, details)!
-- Adds what the counters lack, and the rebuild's line in the audit log: in one statement, because it takes the ingest lock.
WITH rebuilt AS MATERIALIZED (
    SELECT rebuild_counters(:batch_key, :counters, :a, :b, :c, :recipients, :talked, :talk_seconds)
)
INSERT INTO audit_log (actor, key_id, action, subject, outcome, details)
SELECT :actor, :key_id, 'rebuild', 'upload ' || :batch_key, :outcome, :details::json FROM rebuilt;

-- name: count_recipients(batch_key)$
-- The number of stored recipients, up to the number that there should be.
SELECT count(*) FROM recipients WHERE batch_key = :batch_key;

-- name: list_facts_with_bodies(batch_key, after_recipient, after_arrival, limit)
-- Facts in the order of their key, each with its event's digest and, while it is kept, its raw body.
SELECT f.*, v.*
FROM (
    SELECT * FROM facts
    WHERE facts.batch_key = :batch_key
      AND (facts.recipient_no, facts.arrival_id) > (:after_recipient::integer, :after_arrival::bigint)
    ORDER BY facts.recipient_no, facts.arrival_id
    LIMIT :limit
) AS f
CROSS JOIN LATERAL read_fact_body(f) AS v
ORDER BY f.recipient_no, f.arrival_id;

-- name: sample_facts(last_arrival, size)
-- Facts that are spread at random over all arrivals, at most :size of them; all if there are no more arrivals. Columns as
-- in list_facts_with_bodies.
SELECT f.*, v.*
FROM (
    SELECT DISTINCT ON (s.arrival_id) s.*
    FROM (
        SELECT CASE WHEN :last_arrival::bigint <= :size::integer THEN g.n ELSE ceil(random() * :last_arrival)::bigint END AS arrival_id
        FROM generate_series(1, :size) AS g (n)
        OFFSET 0
    ) AS p
    CROSS JOIN LATERAL (
        SELECT * FROM facts WHERE facts.arrival_id >= p.arrival_id ORDER BY facts.arrival_id LIMIT 1
    ) AS s
    ORDER BY s.arrival_id
) AS f
CROSS JOIN LATERAL read_fact_body(f) AS v;

-- name: list_waiting_bodies(after, limit)
-- Events that fit no recipient, by arrival, each with its digest and, while it is kept, its raw body.
SELECT u.arrival_id, u.event_id, u.agent_id, u.source, k.digest, k.target, k.received_at, x.body, x.signature
FROM (SELECT * FROM unattributed WHERE unattributed.arrival_id > :after ORDER BY unattributed.arrival_id LIMIT :limit) AS u
LEFT JOIN LATERAL find_arrival(u.event_id, u.occurred_at, u.arrival_id) AS k ON true
LEFT JOIN LATERAL (
    SELECT body, signature FROM event_bodies AS b WHERE b.arrival_id = u.arrival_id AND b.recorded_at = k.recorded_at
) AS x ON true
ORDER BY u.arrival_id;

-- name: list_quarantined_bodies(after, limit)
-- Bodies in quarantine, by id, each with its digest and raw body.
SELECT quarantine_id, digest, target, body, signature FROM quarantine
WHERE replayed_at IS NULL AND quarantine_id > :after
ORDER BY quarantine_id
LIMIT :limit;

-- name: check_places(agent_id, phone, keys, batch_key)
-- Events without a reference that would be placed elsewhere today, of the next agents and phones; the last row has the
-- key reached. With batch_key: those that are in that batch, or belong there; agent_id is then the batch's agent.
SELECT * FROM check_places(:agent_id, :phone, :keys, :batch_key);

-- name: replace_places(agent_id, phone, keys)
-- Like check_places, and also moves them there.
SELECT * FROM replace_places(:agent_id, :phone, :keys);

-- name: add_evidence(arrival_ids, parameters)$
-- Stores the evidence on facts that were placed before it was stored; returns how many.
SELECT add_evidence(:arrival_ids, :parameters);
