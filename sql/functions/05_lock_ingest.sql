-- THE lock: every writer of facts, or of anything derived from them, holds it until its commit. It serialises across all
-- replicas, so old state is read safely, deadlocks cannot happen, and feed positions commit in their order.
--
-- SHARE UPDATE EXCLUSIVE conflicts with itself but not with the lock of pg_dump, and is the only such mode that does not
-- scan the locks of all other sessions. It writes no WAL.
--
-- This first definition also takes the advisory lock of earlier versions, to exclude their functions that still run.
-- finish_lock_change() removes it, because anyone can hold an advisory lock.
CREATE OR REPLACE FUNCTION lock_ingest() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE ingest_lock IN SHARE UPDATE EXCLUSIVE MODE;
    -- A role that may not take it runs no function of an earlier version.
    IF has_function_privilege('pg_advisory_xact_lock(integer, integer)', 'EXECUTE') THEN
        PERFORM pg_advisory_xact_lock(7304564, 1);
    END IF;
END
$$;

-- Removes the advisory lock from lock_ingest() once no function of an earlier version runs any more. Call it after the
-- functions are applied and committed: every later writer holds ingest_lock. It waits for the transactions of writing
-- roles that began before and do not hold that lock; raises lock_not_available when that takes longer than p_wait.
CREATE OR REPLACE FUNCTION finish_lock_change(p_wait interval) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_until CONSTANT timestamptz := clock_timestamp() + p_wait;
    v_older          text[];
BEGIN
    IF (SELECT p.prosrc NOT LIKE '%advisory%' FROM pg_proc AS p WHERE p.oid = 'lock_ingest()'::regprocedure) THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT l.virtualtransaction) INTO v_older
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND l.pid <> pg_backend_pid() AND has_table_privilege(a.usesysid, 'events', 'INSERT')
      AND (l.mode = 'RowExclusiveLock' AND l.locktype = 'relation'
           OR l.locktype = 'advisory' AND (l.classid, l.objid, l.objsubid) = (7304564, 1, 2));
    WHILE EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.virtualtransaction = ANY (v_older)
          AND NOT EXISTS (
              SELECT FROM pg_locks AS n
              WHERE n.virtualtransaction = l.virtualtransaction AND n.relation = 'ingest_lock'::regclass))
    LOOP
        IF clock_timestamp() > v_until THEN
            RAISE EXCEPTION 'transactions that began before the upgrade still write'
                USING ERRCODE = 'lock_not_available';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    CREATE OR REPLACE FUNCTION lock_ingest() RETURNS void
    LANGUAGE plpgsql
    AS 'BEGIN LOCK TABLE ingest_lock IN SHARE UPDATE EXCLUSIVE MODE; END';
END
$$;
