-- The index that becomes the ledger's key together with the function that uses it: see 40_ingest.sql.

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS events_by_week ON events (week, event_id);

-- migrate:down
DROP INDEX IF EXISTS events_by_week;
ALTER TABLE events DROP CONSTRAINT events_pkey, ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);
