-- name: create_schema_tables()#
-- The records of what was applied; schema_migrations is dbmate's own table with three columns more.
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
-- The commands that give our role what making the schema takes; null: it lacks nothing. BI tools' schemas are made once.
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
-- What takes away the indexes whose building failed half way.
SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass) AS statement
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace;

-- name: has_migrations_lock()$
-- Whether the table exists that migrators lock.
SELECT to_regclass('migrations_lock') IS NOT NULL;

-- name: create_migrations_lock()!
-- The table that migrators lock: always empty.
CREATE TABLE IF NOT EXISTS migrations_lock ();

-- name: lock_migrations()!
-- One migrator at a time, across replicas, until this transaction ends; refuses while another holds it.
LOCK TABLE migrations_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;

-- name: stay_idle()!
-- The server does not end this transaction for being idle.
SELECT set_config('idle_in_transaction_session_timeout', '0', true);

-- name: list_migrations()
-- What was applied, with its checksum (null when dbmate applied it), and from which version on one can live with it.
SELECT version, checksum, compatible_from FROM schema_migrations ORDER BY version;

-- name: record_migration(version, checksum, compatible_from)!
-- Notes a migration in the transaction that applied it.
INSERT INTO schema_migrations (version, checksum, compatible_from) VALUES (:version, :checksum, :compatible_from);

-- name: list_functions()
-- The functions and views as they were last applied; no views once somebody has dropped their schemas.
SELECT name, checksum, release FROM schema_functions
WHERE NOT starts_with(name, 'bi/') OR to_regnamespace('bi') IS NOT NULL AND to_regnamespace('bi_full') IS NOT NULL;

-- name: record_function(name, checksum, release)!
-- Notes a function's text, and the version that it is of, in the transaction that applied it.
INSERT INTO schema_functions (name, checksum, release) VALUES (:name, :checksum, :release)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, release = excluded.release, applied_at = now();

-- name: backfill_counters()!
-- Fills counters that are new, for what was there before them.
SELECT backfill_counters();

-- name: finish_lock_change(wait)!
-- Leaves the advisory lock of earlier versions out of lock_ingest(), once none of their functions runs.
SELECT finish_lock_change(:wait);

-- name: is_lock_change_unfinished()$
-- Whether lock_ingest() still takes the lock of earlier versions too, since a migration was ended before its last step.
SELECT p.prosrc LIKE '%advisory%' FROM pg_proc AS p WHERE p.oid = to_regprocedure('lock_ingest()');

-- name: create_body_partitions()!
-- Makes sure that the months ahead have their partitions.
SELECT create_body_partitions(clock_timestamp(), 3);

-- name: prove_ingest(timeout)!
-- Proves that an ingest would get its lock within that time; holds it for this statement only.
SELECT set_config('lock_timeout', :timeout, true), lock_ingest();

-- name: commit_heartbeat()!
-- Proves that this database takes commits.
INSERT INTO heartbeat (id, beat_at) VALUES (1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at;
