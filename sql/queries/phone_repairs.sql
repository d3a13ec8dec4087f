-- name: get_phone_repair()^
-- The progress of the repair of phones, if it is due.
SELECT CASE WHEN step = 'done' THEN 'recipients' ELSE step END AS step, batch_key, cursor
FROM phone_repairs
WHERE name = 'phones' AND (step <> 'done' OR due_at <= clock_timestamp());

-- name: begin_phone_repair()!
-- Begins the next pass of a repair that had finished and is due again.
UPDATE phone_repairs SET step = 'recipients', batch_key = 0, cursor = 0
WHERE name = 'phones' AND step = 'done' AND due_at <= clock_timestamp();

-- name: read_made_recipients(batch_key, after, rows)
-- The next recipients of batches made elsewhere, with their agents, from a batch on, after a recipient.
SELECT b.batch_key, r.recipient_no, r.phone, b.agent_id
FROM (SELECT batch_key, agent_id FROM batches WHERE origin = 'provider' AND batch_key >= :batch_key) AS b
CROSS JOIN LATERAL (
    SELECT recipient_no, phone FROM recipients
    WHERE recipients.batch_key = b.batch_key
      AND recipients.recipient_no > CASE WHEN b.batch_key = :batch_key THEN :after::bigint ELSE 0 END
    ORDER BY recipient_no
    LIMIT :rows
) AS r
ORDER BY b.batch_key, r.recipient_no
LIMIT :rows;

-- name: repair_recipients(after_batch, after, batch_key, cursor, batch_keys, recipient_nos, said, phones)$
-- Repairs the phones of some recipients, and records the progress; returns false if another process was faster.
SELECT repair_recipients(
    :after_batch, :after, :batch_key, :cursor, :batch_keys::bigint[], :recipient_nos::integer[], :said::text[],
    :phones::text[]);

-- name: read_waiting_phones(after, rows)
-- The next waiting events, with their agents.
SELECT arrival_id, phone, agent_id FROM unattributed WHERE arrival_id > :after ORDER BY arrival_id LIMIT :rows;

-- name: repair_waiting(after, cursor, arrival_ids, said, phones)$
-- Repairs the phones of some waiting events, and records the progress; returns false if another process was faster.
SELECT repair_waiting(:after, :cursor, :arrival_ids::bigint[], :said::text[], :phones::text[]);
