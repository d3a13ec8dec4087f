-- Calls outside batches that still hold a person, for their retention: also those of a caller who withheld the phone.

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS other_events_kept ON other_events (received_at) WHERE phone IS NOT NULL OR parameters IS NOT NULL;

-- migrate:down
DROP INDEX other_events_kept;
