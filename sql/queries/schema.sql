-- name: create_schema_tables()#
-- The records of what was applied; schema_migrations is dbmate's own table with three more columns.
CREATE TABLE IF NOT EXISTS schema_migrations (version varchar(128) PRIMARY KEY);
ALTER TABLE schema_migrations
    ADD COLUMN IF NOT EXISTS checksum text,
    ADD COLUMN IF NOT EXISTS applied_at timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS compatible_from text;
CREATE TABLE IF NOT EXISTS schema_functions (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE schema_functions ADD COLUMN IF NOT EXISTS release text;

-- name: has_schema_tables()$
-- Whether this database was ever migrated, by a version that keeps the same records.
SELECT count(*) = 2 FROM pg_attribute AS a
WHERE NOT a.attisdropped
  AND ((a.attrelid = to_regclass('schema_migrations') AND a.attname = 'compatible_from')
    OR (a.attrelid = to_regclass('schema_functions') AND a.attname = 'release'));

-- name: list_missing_create_rights()$
-- The commands that grant our role what creating the schema needs; null: nothing is missing. BI schemas are created once.
SELECT array_agg(x.command ORDER BY x.command)
FROM (
    SELECT 'CREATE SCHEMA public' AS command WHERE to_regnamespace('public') IS NULL
    UNION ALL
    SELECT format('GRANT USAGE, CREATE ON SCHEMA public TO %I', current_user)
    WHERE to_regnamespace('public') IS NULL OR NOT has_schema_privilege('public', 'USAGE') OR NOT has_schema_privilege('public', 'CREATE')
    UNION ALL
    SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
    WHERE (to_regnamespace('bi') IS NULL OR to_regnamespace('bi_full') IS NULL) AND NOT has_database_privilege(current_database(), 'CREATE')
) AS x;

-- name: set_lock_timeout(timeout)!
-- How long a statement of this transaction waits for a lock.
SELECT set_config('lock_timeout', :timeout, true);

-- name: list_invalid_indexes()
-- The commands that drop indexes whose build failed half way.
SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass) AS statement
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace;

-- name: has_migrations_lock()$
-- Whether the table that migrators lock exists.
SELECT to_regclass('migrations_lock') IS NOT NULL;

-- name: create_migrations_lock()!
-- Creates the table that migrators lock; it is always empty.
CREATE TABLE IF NOT EXISTS migrations_lock ();

-- name: lock_migrations()!
-- One migrator at a time, across replicas, until this transaction ends; refuses while another holds it.
LOCK TABLE migrations_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;

-- name: stay_idle()!
-- Keeps the server from ending this transaction for being idle.
SELECT set_config('idle_in_transaction_session_timeout', '0', true);

-- name: list_migrations()
-- Applied migrations with their checksums (null when dbmate applied one), and the oldest version compatible with each.
SELECT version, checksum, compatible_from FROM schema_migrations ORDER BY version;

-- name: record_migration(version, checksum, compatible_from)!
-- Records a migration, in the transaction that applied it.
INSERT INTO schema_migrations (version, checksum, compatible_from) VALUES (:version, :checksum, :compatible_from);

-- name: list_functions()
-- The functions and views as they were last applied; without views when their schemas have been dropped.
SELECT name, checksum, release FROM schema_functions
WHERE NOT starts_with(name, 'bi/') OR to_regnamespace('bi') IS NOT NULL AND to_regnamespace('bi_full') IS NOT NULL;

-- name: record_function(name, checksum, release)!
-- Records a function's text and version, in the transaction that applied it.
INSERT INTO schema_functions (name, checksum, release) VALUES (:name, :checksum, :release)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, release = excluded.release, applied_at = now();

-- name: backfill_counters()!
-- Fills new counters for data that was there before them.
SELECT backfill_counters();

-- name: finish_lock_change(wait)!
-- Removes the advisory lock of earlier versions from lock_ingest(), once none of their functions runs.
SELECT finish_lock_change(:wait);

-- name: is_lock_change_unfinished()$
-- Whether lock_ingest() still takes the lock of earlier versions too, because a migration ended before its last step.
SELECT p.prosrc LIKE '%advisory%' FROM pg_proc AS p WHERE p.oid = to_regprocedure('lock_ingest()');

-- name: create_body_partitions()!
-- Creates the partitions of the months ahead, if missing.
SELECT create_body_partitions(clock_timestamp(), 3);

-- name: prove_ingest(timeout)!
-- Proves that an ingest can acquire its lock within that time; holds the lock for this statement only.
SELECT set_config('lock_timeout', :timeout, true), lock_ingest();

-- name: commit_heartbeat()!
-- Proves that this database takes commits.
INSERT INTO heartbeat (id, beat_at) VALUES (1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at;
