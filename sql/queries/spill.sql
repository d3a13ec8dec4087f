-- name: is_ingest_busy()$
-- Whether another session holds the ingest lock or waits for it.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'ingest_lock'::regclass AND mode = 'ShareUpdateExclusiveLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: note_spill_state(stream, waiting_events, oldest_at, checked_at)!
-- Records what waited in the stream when it was looked at, at the earliest at :checked_at; forgets replicas that have ended
-- before, and streams that were empty.
WITH noted AS (
    INSERT INTO spill_states AS s (stream, waiting_events, oldest_at, checked_at)
    VALUES (:stream, :waiting_events, :oldest_at, :checked_at)
    ON CONFLICT (stream) DO UPDATE
    SET waiting_events = excluded.waiting_events, oldest_at = excluded.oldest_at, checked_at = excluded.checked_at
    WHERE s.checked_at <= excluded.checked_at
), forgotten AS (
    DELETE FROM spill_states WHERE stream <> :stream AND waiting_events = 0
)
DELETE FROM spill_replicas WHERE alive_until < :checked_at::timestamptz AND :waiting_events = 0;

-- name: get_database_time()$
-- The current time of the database.
SELECT clock_timestamp();

-- name: renew_spill_replica(replica, seconds, is_spilling, has_spilled)!
-- Announces for so many seconds that a replica puts nothing into the stream, or that it may; if it no longer does, but has
-- since it last announced that it does not, also until when it may have.
INSERT INTO spill_replicas AS r (replica, alive_until, spilled_at)
VALUES (:replica, clock_timestamp() + make_interval(secs => :seconds),
        CASE WHEN :is_spilling THEN 'infinity' WHEN :has_spilled THEN clock_timestamp() END)
ON CONFLICT (replica) DO UPDATE
SET alive_until = excluded.alive_until, spilled_at = coalesce(excluded.spilled_at, r.spilled_at);

-- name: forget_spill_replica(replica)!
-- Removes the row of a replica that ends, unless it may have put events into the stream that nobody has seen there yet.
DELETE FROM spill_replicas AS r
WHERE r.replica = :replica
  AND (r.spilled_at IS NULL OR r.spilled_at < (SELECT max(s.checked_at) FROM spill_states AS s));

-- name: find_spilled()^
-- How many events wait in the stream, since when, if any may.
SELECT events, since FROM find_spilled();

-- name: list_spill_states()
-- What waited in each stream when it was last looked at, and how long ago that was.
SELECT stream, waiting_events, oldest_at, checked_at,
       extract(epoch FROM clock_timestamp() - checked_at)::float8 AS checked_seconds_ago
FROM spill_states ORDER BY checked_at;

-- name: list_spill_replicas()
-- The replicas that may put events into the stream.
SELECT replica, alive_until, spilled_at, alive_until >= clock_timestamp() AS is_alive FROM spill_replicas ORDER BY replica;

-- name: forget_spilled(streams)$
-- Gives up what waits in these streams, and what replicas that have ended may have put there; returns how many events
-- were known to wait.
WITH given_up AS (
    DELETE FROM spill_states WHERE stream = ANY (:streams::text[]) RETURNING waiting_events
), ended AS (
    DELETE FROM spill_replicas WHERE alive_until < clock_timestamp()
)
SELECT coalesce(sum(waiting_events), 0)::bigint FROM given_up;
