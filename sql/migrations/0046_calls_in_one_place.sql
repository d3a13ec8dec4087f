-- A call is in one place: events of a call that a rule knows to be outside batches are found by their conversation, and events
-- that a reference refutes leave its recipient. What is stored is placed again by both.

-- compatible-from: 0032
-- migrate:up
INSERT INTO placement_jobs (batch_key, agent_id, since, scanned_at)
SELECT b.batch_key, b.agent_id, u.scanned_at, u.scanned_at
FROM (SELECT max(batch_key) AS batch_key, agent_id FROM batches GROUP BY agent_id) AS b
CROSS JOIN LATERAL (
    SELECT k.scanned_at FROM unreferenced_events AS k WHERE k.agent_id = b.agent_id ORDER BY k.scanned_at LIMIT 1
) AS u;

COMMENT ON COLUMN other_events.phone IS
    'The person''s phone, in E.164: of an inbound call the caller''s. Null if the caller withheld it, and once erased.';

-- migrate:down
SELECT 1;
