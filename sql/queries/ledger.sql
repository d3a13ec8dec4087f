-- name: ingest(event_id, digest, event_type, target, body, received_at, source, agent_id, phone, ref_token, ref_no, parameters, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, signature, kind, from_phone, trace_id)^
-- Commits a group of events and everything that follows from them; returns the number of each disposition.
SELECT *
FROM ingest(
    p_event_ids => :event_id, p_digests => :digest, p_event_types => :event_type, p_targets => :target,
    p_bodies => :body, p_received_at => :received_at, p_sources => :source, p_agent_ids => :agent_id,
    p_phones => :phone, p_ref_tokens => :ref_token, p_ref_nos => :ref_no, p_parameters => :parameters,
    p_conversation_ids => :conversation_id, p_attempt_numbers => :attempt_number,
    p_max_attempts => :max_attempts, p_statuses => :status, p_is_final => :is_final,
    p_next_retry_at => :next_retry_at, p_occurred_at => :occurred_at, p_started_at => :started_at,
    p_ended_at => :ended_at, p_duration_seconds => :duration_seconds, p_failure_reasons => :failure_reason,
    p_results => :results, p_signatures => :signature, p_kinds => :kind, p_from_phones => :from_phone,
    p_trace_ids => :trace_id);

-- name: name_events(event_id, digest, occurred_at, conflicts, unattributed)
-- Events of a group that came with another body than before, and events that fit no recipient or several: at most so many of each.
SELECT * FROM name_events(:event_id, :digest, :conflicts, :unattributed, :occurred_at);

-- name: quarantine_bodies(event_id, digest, target, body, received_at, reason, detail, signature, numbers)!
-- Keeps unusable bodies, except those that name an erased person. The same body again only counts as one more delivery.
-- numbers: the phone numbers in each body, as a JSON array.
INSERT INTO quarantine AS q (
    event_id, digest, target, body, signature, received_at, last_received_at, reason, detail, erased_at, replayed_at)
SELECT DISTINCT ON (u.target, u.digest)
       u.event_id, u.digest, u.target, CASE WHEN e.at IS NULL THEN u.body ELSE '' END,
       CASE WHEN e.at IS NULL THEN u.signature END, u.received_at, u.received_at, u.reason, u.detail, e.at, e.at
FROM unnest(
    :event_id::text[], :digest::bytea[], :target::text[], :body::bytea[], :received_at::timestamptz[],
    :reason::text[], :detail::text[], :signature::bytea[], :numbers::jsonb[]
) AS u (event_id, digest, target, body, received_at, reason, detail, signature, numbers)
CROSS JOIN LATERAL (
    SELECT CASE WHEN find_erased_phone(ARRAY(SELECT jsonb_array_elements_text(u.numbers))) IS NOT NULL
           THEN clock_timestamp() END AS at
) AS e
ORDER BY u.target, u.digest
ON CONFLICT (target, digest) DO UPDATE
SET deliveries = q.deliveries + 1, last_received_at = excluded.last_received_at,
    signature = coalesce(q.signature, excluded.signature);

-- name: find_erased_phones(numbers)
-- For each JSON array of numbers (its place n, from 1) the erased phone that one of them means, if any.
SELECT u.n, p.phone
FROM unnest(:numbers::jsonb[]) WITH ORDINALITY AS u (numbers, n)
CROSS JOIN LATERAL (SELECT find_erased_phone(ARRAY(SELECT jsonb_array_elements_text(u.numbers))) AS phone) AS p
WHERE p.phone IS NOT NULL;

-- name: list_quarantine(after, limit)
-- The bodies in quarantine, oldest first, after a given id.
SELECT quarantine_id, event_id, target, reason, detail, octet_length(body) AS size_bytes, deliveries, received_at,
       last_received_at
FROM quarantine
WHERE replayed_at IS NULL AND quarantine_id > :after
ORDER BY quarantine_id
LIMIT :limit;

-- name: get_quarantined(quarantine_id)^
-- One body in quarantine, whole.
SELECT quarantine_id, target, body, received_at, signature, reason, detail FROM quarantine
WHERE quarantine_id = :quarantine_id AND replayed_at IS NULL;

-- name: mark_replayed(quarantine_id)!
-- Records that a body has moved from quarantine to the ledger.
UPDATE quarantine SET replayed_at = clock_timestamp() WHERE quarantine_id = :quarantine_id;

-- name: get_event(event_id)^
-- The state of an event, from the ledger or else from quarantine. Whether its fact won is looked up, never stored,
-- because a later event may change it.
SELECT e.event_id, e.event_type, e.target, e.received_at, e.recorded_at,
       CASE
           WHEN u.arrival_id IS NOT NULL THEN 'unattributed'
           WHEN o.arrival_id IS NOT NULL THEN 'other_call'
           WHEN f.arrival_id IS NULL THEN 'erased'
           WHEN EXISTS (SELECT FROM attempts_of(ARRAY[f.batch_key], ARRAY[f.recipient_no], NULL) AS a
                        WHERE a.arrival_id = e.arrival_id) THEN 'applied'
           ELSE 'superseded'
       END AS disposition,
       coalesce(u.reason, NULL) AS reason, b.batch_id, f.recipient_no AS recipient, f.method,
       coalesce(f.conversation_id, o.conversation_id) AS conversation_id,
       coalesce(f.attempt_number, o.attempt_number) AS attempt_number, coalesce(f.status, o.status) AS status,
       e.others + (SELECT count(*) FROM event_conflicts AS c WHERE c.event_id = e.event_id) AS conflicts,
       (SELECT count(*) FROM reference_contradictions AS x WHERE x.arrival_id = e.arrival_id) > 0 AS contradicts_phone,
       o.kind
FROM (SELECT *, count(*) OVER () - 1 AS others FROM find_events(:event_id) ORDER BY arrival_id LIMIT 1) AS e
LEFT JOIN facts AS f ON f.arrival_id = e.arrival_id
LEFT JOIN batches AS b ON b.batch_key = f.batch_key
LEFT JOIN unattributed AS u ON u.arrival_id = e.arrival_id
LEFT JOIN other_events AS o ON o.arrival_id = e.arrival_id
UNION ALL
SELECT q.event_id, NULL, q.target, q.received_at, q.received_at, 'quarantined', q.reason, NULL, NULL, NULL, NULL,
       NULL, NULL, 0, false, NULL
FROM quarantine AS q
WHERE q.event_id = :event_id AND q.replayed_at IS NULL
LIMIT 1;

-- name: get_event_body(event_id)^
-- The raw body of an event, and what to call it without its id; null if it is no longer kept, nothing for an unknown event.
SELECT x.body, 'arrival ' || e.arrival_id AS subject
FROM (SELECT * FROM find_events(:event_id) ORDER BY arrival_id LIMIT 1) AS e
LEFT JOIN LATERAL (
    SELECT b.body FROM event_bodies AS b WHERE b.arrival_id = e.arrival_id AND b.recorded_at = e.recorded_at
) AS x ON true
UNION ALL
(SELECT CASE WHEN q.erased_at IS NULL THEN q.body END, 'quarantined ' || q.quarantine_id
 FROM quarantine AS q
 WHERE q.event_id = :event_id AND q.replayed_at IS NULL
 LIMIT 1)
LIMIT 1;

-- name: list_unattributed(after, limit)
-- Events that fit no recipient or several, oldest first, after a given arrival.
SELECT arrival_id, event_id, agent_id, phone, coalesce(source, 'webhook') AS source, is_question(source) AS is_question, reason,
       received_at
FROM unattributed
WHERE arrival_id > :after
ORDER BY arrival_id
LIMIT :limit;

-- name: list_contradictions(after, limit)
-- Events whose reference names a recipient with another phone than the one that was called, after a given arrival.
SELECT x.arrival_id, x.event_id, x.agent_id, b.batch_id, x.recipient_no AS recipient, x.phone, x.received_at
FROM reference_contradictions AS x
JOIN batches AS b ON b.batch_key = x.batch_key
WHERE x.arrival_id > :after
ORDER BY x.arrival_id
LIMIT :limit;

-- name: read_quarantined(quarantine_id)^
-- One body, in quarantine or replayed since, whole.
SELECT body, target FROM quarantine WHERE quarantine_id = :quarantine_id AND erased_at IS NULL;

-- name: note_webhook_answers(targets, answers, requests)!
-- Adds the webhook requests that a replica has answered since its last report.
INSERT INTO webhook_answers AS w (minute, target, answer, requests)
SELECT date_trunc('minute', clock_timestamp()), u.target, u.answer, u.requests
FROM unnest(:targets::text[], :answers::text[], :requests::bigint[]) AS u (target, answer, requests)
ORDER BY u.target, u.answer
ON CONFLICT (minute, target, answer) DO UPDATE SET requests = w.requests + excluded.requests;

-- name: forget_webhook_answers()!
-- Deletes the counts that no summary uses any more.
DELETE FROM webhook_answers WHERE minute < clock_timestamp() - interval '2 hours';

-- name: list_webhook_answers()
-- Webhook requests of the last hour by target and answer.
SELECT target, answer, sum(requests)::bigint AS requests, max(minute) AS last_at
FROM webhook_answers
WHERE minute > clock_timestamp() - interval '1 hour'
GROUP BY target, answer
ORDER BY target, answer;
