-- name: match_people(contained, or_contained, words, most, before, limit)
-- People by a parameter or by the words of their name, those of the latest batches first, before a given place.
SELECT m.phone, m.place, m.matches
FROM match_people(:contained::jsonb, :or_contained::jsonb, lower(:words)::tsquery, :most) AS m
WHERE m.place < :before
ORDER BY m.place DESC
LIMIT :limit;

-- name: list_people(phones)
-- Whom these phones are known as; nothing for a phone that is not known.
SELECT * FROM known_people(:phones);

-- name: list_recipients_of_people(phones, most)
-- The latest recipients of people, each with its batch and outcome.
SELECT k.phone AS person_phone, b.batch_id, b.name AS batch_name, b.agent_id, s.recipient, s.state, s.status, s.attempts,
       s.last_attempt_at, s.next_retry_at, s.parameters
FROM list_recipients_of(:phones, :most) AS k
CROSS JOIN LATERAL show_recipient(k.batch_key, k.recipient_no) AS s
LEFT JOIN LATERAL (SELECT * FROM batches WHERE batches.batch_key = k.batch_key OFFSET 0) AS b ON true
ORDER BY k.batch_key DESC, k.recipient_no DESC;

-- name: list_timeline(phone, most, before, limit)
-- What happened to a person and what is due, the latest first, before a given time; steps of one time come together. found:
-- how many steps there are before that time.
SELECT t.*, count(*) OVER () AS found
FROM person_timeline(:phone, :most) AS t
WHERE t.at < coalesce(:before::timestamptz, 'infinity')
ORDER BY t.at DESC
FETCH FIRST (:limit::bigint) ROWS WITH TIES;

-- name: get_person(batch_id, recipient_no)^
-- Who a recipient is; nothing without a phone.
SELECT r.phone, r.parameters, left(encode(hash_person('phone', r.phone), 'hex'), 16) AS person
FROM batches AS b
JOIN recipients AS r ON r.batch_key = b.batch_key AND r.recipient_no = :recipient_no
WHERE b.batch_id = :batch_id AND r.phone IS NOT NULL;
