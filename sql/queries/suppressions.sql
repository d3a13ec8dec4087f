-- name: suppress_people(phones, reasons, source, actor, key_id, request_id)^
-- Suppresses people; returns how many are new, and how many rows of uploads that are not sent yet are left out.
SELECT * FROM suppress_people(:phones, :reasons, :source, NULL, NULL, :actor, :key_id, :request_id);

-- name: learn_suppressions(phone, ref_token, ref_no, agent_id, reason, called_at)^
-- Suppresses the people of calls whose results match a rule.
SELECT *
FROM learn_suppressions(:phone::text[], :ref_token::text[], :ref_no::integer[], :agent_id::bigint[], :reason::text[],
                        :called_at::timestamptz[]);

-- name: lift_suppression(phone, reason, actor, key_id, request_id)$
-- Removes a person from the list; returns their hash, or null if they are not on it.
SELECT lift_suppression(:phone, :reason, :actor, :key_id, :request_id);

-- name: list_suppressions(before, limit)
-- Suppressed people, the latest first, before a given number.
SELECT suppression_no, left(encode(phone_hash, 'hex'), 16) AS person, reason, source, agent_id, called_at, since, actor
FROM suppressions
WHERE suppression_no < :before AND lifted_at IS NULL
ORDER BY suppression_no DESC
LIMIT :limit;

-- name: get_suppression(phone)^
-- The suppression of one person.
SELECT suppression_no, left(encode(phone_hash, 'hex'), 16) AS person, reason, source, agent_id, called_at, since, actor
FROM suppressions
WHERE phone_hash = hash_person('phone', :phone) AND lifted_at IS NULL;

-- name: get_last_suppression()$
-- The number of the last suppression that holds; 0 if there is none.
SELECT coalesce(max(suppression_no), 0) FROM suppressions WHERE lifted_at IS NULL;

-- name: find_suppressed(phones)
-- Those of these phones that are suppressed, and why.
SELECT h.phone, s.reason
FROM hash_phones(:phones) AS h
CROSS JOIN LATERAL (SELECT * FROM suppressions WHERE suppressions.phone_hash = h.phone_hash OFFSET 0) AS s
WHERE s.lifted_at IS NULL;

-- name: count_called(phones, since)
-- How many of these phones were called since a time, by the states of their recipients; state null: in total.
SELECT state, count(DISTINCT phone) AS people
FROM called_phones(:phones, :since)
GROUP BY GROUPING SETS ((), (state))
HAVING count(*) > 0;

-- name: find_called(phones, since)$
-- Those of these phones that were called since a time.
SELECT coalesce(array_agg(DISTINCT phone), '{}') FROM called_phones(:phones, :since);

-- name: wait_for_suppressions()!
-- Waits for those who are suppressing people now.
SELECT wait_for_suppressions();

-- name: mark_suppressed(batch_keys, after)$
-- Marks the rows of stored uploads whose people are suppressed, by suppressions after the given number.
SELECT mark_suppressed(:batch_keys, :after);

-- name: list_suppressed_recipients(batch_key)
-- The rows of an upload that must be withdrawn before it is sent. An erased person's phone is known until the erasure is done,
-- which removes the row from the file itself.
SELECT k.recipient_no, coalesce(r.phone, e.phone) AS phone
FROM suppressed_recipients AS k
JOIN recipients AS r ON r.batch_key = k.batch_key AND r.recipient_no = k.recipient_no
LEFT JOIN erased_recipients AS x ON x.batch_key = k.batch_key AND x.recipient_no = k.recipient_no
LEFT JOIN erasures AS e ON e.phone_hash = x.phone_hash AND e.phone IS NOT NULL
WHERE k.batch_key = :batch_key;

-- name: withdraw_unsent(batch_key, recipient_nos)$
-- Withdraws recipients of a batch before it is sent; returns their number.
SELECT withdraw_unsent(:batch_key, :recipient_nos);
