-- By which an upload is known to repeat another, however its file is written.

-- compatible-from: 0016
-- migrate:up
ALTER TABLE batches ADD COLUMN rows_digest bytea, ADD COLUMN people_digest bytea;
COMMENT ON COLUMN batches.rows_digest IS
    'SHA-256 over the columns and the normalised rows of the whole file. Null: it is still being checked, or comes from before this was kept.';
COMMENT ON COLUMN batches.people_digest IS 'SHA-256 over the phones of the whole file, in their order as numbers.';

-- migrate:down
ALTER TABLE batches DROP COLUMN rows_digest, DROP COLUMN people_digest;
