-- name: is_ingest_busy()$
-- Whether another session holds the ingest lock or waits for it.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'ingest_lock'::regclass AND mode = 'ShareUpdateExclusiveLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));
