-- name: is_ingest_busy()$
-- Whether another session holds the ingest lock or waits for it.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'ingest_lock'::regclass AND mode = 'ShareUpdateExclusiveLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: note_spill_state(stream, waiting_events, oldest_at, checked_at)!
-- Records what waited in the stream when it was looked at, at the earliest at :checked_at: at once if that changes what is
-- known, else every 10 s, and never once the look is too old to say anything. The first stream ever is accepted. A look
-- that saw the accepted one empty forgets replicas that had ended before.
WITH noted AS (
    INSERT INTO spill_states AS s (stream, waiting_events, oldest_at, checked_at, is_accepted)
    SELECT :stream, :waiting_events, :oldest_at, :checked_at, NOT EXISTS (SELECT FROM spill_states)
    WHERE :checked_at::timestamptz BETWEEN clock_timestamp() - interval '30 s' AND clock_timestamp()
      AND (EXISTS (SELECT FROM find_spilled() AS p WHERE p.cause = 'announced')
           OR NOT EXISTS (
               SELECT FROM spill_states AS k
               WHERE k.stream = :stream AND k.waiting_events = :waiting_events
                 AND k.oldest_at IS NOT DISTINCT FROM :oldest_at::timestamptz
                 AND k.checked_at BETWEEN :checked_at::timestamptz - interval '10 s' AND :checked_at::timestamptz))
    ON CONFLICT (stream) DO UPDATE
    SET waiting_events = excluded.waiting_events, oldest_at = excluded.oldest_at, checked_at = excluded.checked_at
    WHERE s.checked_at <= excluded.checked_at OR s.checked_at > clock_timestamp()
    RETURNING s.is_accepted
)
DELETE FROM spill_replicas
WHERE alive_until < :checked_at::timestamptz AND :waiting_events = 0 AND (SELECT is_accepted FROM noted);

-- name: get_database_time()$
-- The current time of the database.
SELECT clock_timestamp();

-- name: renew_spill_replica(replica, valid_until, is_spilling, has_spilled, is_reachable)$
-- Announces until :valid_until that a replica puts nothing into the stream, or that it may; if it no longer does, but has
-- since it last announced that it does not, also until when it may have; and since when it cannot. Returns the time, or
-- nothing if this ran after :valid_until, or after a later one, and so changed nothing.
INSERT INTO spill_replicas AS r (replica, alive_until, spilled_at, unreachable_since)
SELECT :replica, :valid_until, CASE WHEN :is_spilling THEN 'infinity' WHEN :has_spilled THEN clock_timestamp() END,
       CASE WHEN NOT :is_reachable THEN clock_timestamp() END
WHERE :valid_until::timestamptz BETWEEN clock_timestamp() AND clock_timestamp() + interval '5 s'
ON CONFLICT (replica) DO UPDATE
SET alive_until = excluded.alive_until, spilled_at = coalesce(excluded.spilled_at, r.spilled_at),
    unreachable_since = CASE WHEN NOT :is_reachable THEN coalesce(r.unreachable_since, excluded.unreachable_since) END
WHERE r.alive_until < excluded.alive_until OR r.alive_until > clock_timestamp() + interval '5 s'
RETURNING clock_timestamp();

-- name: forget_spill_replica(replica)!
-- Removes the row of a replica that ends, unless it may have put events into the stream that nobody has seen there yet.
DELETE FROM spill_replicas AS r
WHERE r.replica = :replica
  AND (r.spilled_at IS NULL OR r.spilled_at < (SELECT s.checked_at FROM spill_states AS s WHERE s.is_accepted));

-- name: find_spilled()^
-- How many events wait in the stream, since when, and why it is not known to be empty, if any may.
SELECT events, since, cause FROM find_spilled();

-- name: list_spill_states()
-- What waited in each stream when it was last looked at, and how long ago that was.
SELECT stream, waiting_events, oldest_at, checked_at, is_accepted,
       extract(epoch FROM clock_timestamp() - checked_at)::float8 AS checked_seconds_ago
FROM spill_states ORDER BY checked_at;

-- name: list_spill_replicas()
-- The replicas that may put events into the stream.
SELECT replica, alive_until, spilled_at, unreachable_since, alive_until >= clock_timestamp() AS is_alive
FROM spill_replicas ORDER BY replica;

-- name: forget_spilled(kept)$
-- Gives up what waits in any stream but :kept (null: in all), and what replicas that have ended may have put
-- there; returns how many events were known to wait.
WITH given_up AS (
    DELETE FROM spill_states WHERE stream IS DISTINCT FROM :kept RETURNING waiting_events
), ended AS (
    DELETE FROM spill_replicas WHERE alive_until < clock_timestamp()
)
SELECT coalesce(sum(waiting_events), 0)::bigint FROM given_up;

-- name: accept_spill_stream(stream)!
-- From now on, this stream is the one that events are put into.
UPDATE spill_states SET is_accepted = true WHERE stream = :stream AND NOT is_accepted;
