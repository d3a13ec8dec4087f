-- Since when a replica cannot use the spill stream, for the alarm spill_unreachable.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE spill_replicas ADD COLUMN unreachable_since timestamptz;
COMMENT ON COLUMN spill_replicas.unreachable_since IS 'Since when it cannot put events there: the servers do not answer it, or their settings are refused. Null: it can.';

-- migrate:down
ALTER TABLE spill_replicas DROP COLUMN unreachable_since;
