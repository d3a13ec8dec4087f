-- Events without a reference by conversation: those of one call are found together.

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS unreferenced_events_conversation ON unreferenced_events (conversation_id);

-- migrate:down
DROP INDEX unreferenced_events_conversation;
