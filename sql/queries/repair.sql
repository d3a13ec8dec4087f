-- name: get_repair_cursor(name)$
-- The progress of a repair; null before its first step.
SELECT cursor FROM repairs WHERE name = :name;

-- name: save_repair(name, cursor, corrected)!
-- Records the progress of a repair, which never goes back, and adds what it has corrected since its last report.
INSERT INTO repairs AS r (name, cursor, corrected) VALUES (:name, :cursor, :corrected)
ON CONFLICT (name) DO UPDATE
SET cursor = greatest(r.cursor, excluded.cursor), corrected = r.corrected + excluded.corrected,
    updated_at = clock_timestamp();

-- name: find_facts_end(after, limit)$
-- The last of the next :limit facts by arrival; null when there is none.
SELECT max(f.arrival_id)
FROM (SELECT arrival_id FROM facts WHERE arrival_id > :after ORDER BY arrival_id LIMIT :limit) AS f;

-- name: list_implausible_facts(after, until)
-- Facts of a range of arrivals with values that cannot be true, each with its raw body while that is kept.
SELECT f.arrival_id, f.source, f.status, f.is_final, f.next_retry_at, f.occurred_at, f.started_at, f.ended_at,
       f.duration_seconds, f.attempt_number, f.max_attempts, f.from_phone, f.trace_id, k.target, k.received_at, x.body
FROM facts AS f
LEFT JOIN LATERAL find_arrival(f.event_id, f.occurred_at, f.arrival_id) AS k ON true
LEFT JOIN LATERAL (
    SELECT body FROM event_bodies AS b WHERE b.arrival_id = f.arrival_id AND b.recorded_at = k.recorded_at
) AS x ON true
WHERE f.arrival_id > :after AND f.arrival_id <= :until
  AND NOT is_plausible_fact(f.next_retry_at, f.occurred_at, f.started_at, f.ended_at, f.duration_seconds,
                            f.attempt_number, f.max_attempts)
ORDER BY f.arrival_id;

-- name: list_facts_without_details(after, until)
-- Facts of a range of arrivals without caller number and trace id, each with its raw body while that is kept. Those of
-- erased people have no body.
SELECT f.arrival_id, f.source, f.status, f.is_final, f.next_retry_at, f.occurred_at, f.started_at, f.ended_at,
       f.duration_seconds, f.attempt_number, f.max_attempts, f.from_phone, f.trace_id, k.target, k.received_at, x.body
FROM facts AS f
CROSS JOIN LATERAL find_arrival(f.event_id, f.occurred_at, f.arrival_id) AS k
CROSS JOIN LATERAL (
    SELECT body FROM event_bodies AS b WHERE b.arrival_id = f.arrival_id AND b.recorded_at = k.recorded_at
) AS x
WHERE f.arrival_id > :after AND f.arrival_id <= :until AND f.from_phone IS NULL AND f.trace_id IS NULL
ORDER BY f.arrival_id;

-- name: list_waiting_without_details(after, limit)
-- Unattributed events by arrival, each with its raw body if it lacks caller number and trace id.
SELECT u.arrival_id, k.target, k.received_at,
       CASE WHEN u.from_phone IS NULL AND u.trace_id IS NULL THEN (
           SELECT b.body FROM event_bodies AS b WHERE b.arrival_id = u.arrival_id AND b.recorded_at = k.recorded_at) END AS body
FROM (SELECT * FROM unattributed AS w WHERE w.arrival_id > :after ORDER BY w.arrival_id LIMIT :limit) AS u
LEFT JOIN LATERAL find_arrival(u.event_id, u.occurred_at, u.arrival_id) AS k ON true
ORDER BY u.arrival_id;

-- name: fill_waiting_details(arrival_ids, from_phones, trace_ids)!
-- Stores caller numbers and trace ids of unattributed events.
UPDATE unattributed AS u SET from_phone = t.from_phone, trace_id = t.trace_id
FROM unnest(:arrival_ids::bigint[], :from_phones::text[], :trace_ids::text[]) AS t (arrival_id, from_phone, trace_id)
WHERE u.arrival_id = t.arrival_id;

-- name: count_calls_step(recipients)$
-- Counts the calls of some recipients of batches from before call_counts; null when all are counted.
SELECT count_calls_step(:recipients);

-- name: date_events_step(pages)$
-- Finds the week of events that an older version stored, in some more pages; null once it has reached the end.
SELECT date_events_step(:pages);

-- name: correct_facts(arrival_id, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds, attempt_number, max_attempts, from_phone, trace_id)$
-- Changes times and numbers of facts, and all that follows from them; returns how many were different.
SELECT correct_facts(
    :arrival_id, :is_final, :next_retry_at, :occurred_at, :started_at, :ended_at, :duration_seconds, :attempt_number,
    :max_attempts, :from_phone, :trace_id);

-- name: correct_stored_times(limit)$
-- Removes implausible times from batches, their history and withdrawn facts; returns how many rows it changed.
SELECT correct_stored_times(:limit);
