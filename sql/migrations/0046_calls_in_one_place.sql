-- A call is in one place: events of a call that a rule knows to be outside batches are found by their conversation, and events
-- that a reference refutes leave its recipient. What is stored is placed again by both.

-- compatible-from: 0032
-- migrate:up
CREATE INDEX unreferenced_events_conversation ON unreferenced_events (conversation_id);

INSERT INTO placement_jobs (batch_key, agent_id, since, scanned_at)
SELECT b.batch_key, b.agent_id, u.scanned_at, u.scanned_at
FROM (SELECT max(batch_key) AS batch_key, agent_id FROM batches GROUP BY agent_id) AS b
CROSS JOIN LATERAL (
    SELECT k.scanned_at FROM unreferenced_events AS k WHERE k.agent_id = b.agent_id ORDER BY k.scanned_at LIMIT 1
) AS u;

DROP INDEX other_events_received;
CREATE INDEX other_events_received ON other_events (received_at) WHERE phone IS NOT NULL OR parameters IS NOT NULL;
COMMENT ON COLUMN other_events.phone IS
    'The person''s phone, in E.164: of an inbound call the caller''s. Null if the caller withheld it, and once erased.';

-- migrate:down
DROP INDEX other_events_received;
CREATE INDEX other_events_received ON other_events (received_at) WHERE phone IS NOT NULL;
DROP INDEX unreferenced_events_conversation;
