-- name: create_schema_tables()#
-- The records of what was applied; schema_migrations is dbmate's own table with two columns more.
CREATE TABLE IF NOT EXISTS schema_migrations (version varchar(128) PRIMARY KEY);
ALTER TABLE schema_migrations
    ADD COLUMN IF NOT EXISTS checksum text,
    ADD COLUMN IF NOT EXISTS applied_at timestamptz DEFAULT now();
CREATE TABLE IF NOT EXISTS schema_functions (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_schema_tables()$
-- Whether this database was ever migrated.
SELECT to_regclass('schema_functions') IS NOT NULL;

-- name: lock_migrations()!
-- One migrator at a time, across replicas.
SELECT pg_advisory_lock(7304564, 2);

-- name: unlock_migrations()!
-- Lets the next migrator in.
SELECT pg_advisory_unlock(7304564, 2);

-- name: list_migrations()
-- What was applied, with its checksum (null when dbmate applied it).
SELECT version, checksum FROM schema_migrations ORDER BY version;

-- name: record_migration(version, checksum)!
-- Notes a migration in the transaction that applied it.
INSERT INTO schema_migrations (version, checksum) VALUES (:version, :checksum);

-- name: list_functions()
-- The functions and views as they were last applied; no views once somebody has dropped their schemas.
SELECT name, checksum FROM schema_functions
WHERE NOT starts_with(name, 'bi/') OR to_regnamespace('bi') IS NOT NULL AND to_regnamespace('bi_full') IS NOT NULL;

-- name: record_function(name, checksum)!
-- Notes a function's text in the transaction that applied it.
INSERT INTO schema_functions (name, checksum) VALUES (:name, :checksum)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now();

-- name: backfill_counters()!
-- Fills counters that are new, for what was there before them.
SELECT backfill_counters();

-- name: create_body_partitions()!
-- Makes sure that the months ahead have their partitions.
SELECT create_body_partitions(clock_timestamp(), 3);

-- name: commit_heartbeat()!
-- Proves that this database takes commits.
INSERT INTO heartbeat (id, beat_at) VALUES (1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at;
