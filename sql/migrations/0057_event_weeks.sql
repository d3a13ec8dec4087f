-- The week in which the provider created each event, the first column of the ledger's key from now on. Events stored before
-- have none until date_events_step() finds it.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE events ADD COLUMN week date NOT NULL DEFAULT '-infinity';

-- migrate:down
ALTER TABLE events DROP COLUMN week;
