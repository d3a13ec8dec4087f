-- The Monday of the week in UTC in which the provider created an event, by the provider's clock. It is the same for each
-- delivery of a body, so one id and one week are one event. '-infinity' if the event has no time that can be true.
CREATE OR REPLACE FUNCTION event_week(p_occurred_at timestamptz) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT coalesce(date_trunc('week', plausible_time(p_occurred_at) AT TIME ZONE 'UTC')::date, '-infinity');
END;

-- The weeks in which the ledger may have an event: an older version stored it without its week.
CREATE OR REPLACE FUNCTION event_weeks(p_occurred_at timestamptz) RETURNS date[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT ARRAY[event_week(p_occurred_at), '-infinity'];
END;

-- The ledger's row for an arrival: that of its event, or of a conflict with it.
CREATE OR REPLACE FUNCTION find_arrival(p_event_id text, p_occurred_at timestamptz, p_arrival_id bigint)
RETURNS TABLE (digest bytea, target text, received_at timestamptz, recorded_at timestamptz)
LANGUAGE sql STABLE
AS $$
SELECT e.digest, e.target, e.received_at, e.recorded_at FROM events AS e
WHERE e.week = ANY (event_weeks(p_occurred_at)) AND e.event_id = p_event_id AND e.arrival_id = p_arrival_id
UNION ALL
SELECT c.digest, c.target, c.received_at, c.recorded_at FROM event_conflicts AS c
WHERE c.event_id = p_event_id AND c.arrival_id = p_arrival_id
$$;

-- The events with an id: normally one. Bodies with the same id and times in different weeks are several. Without the time it
-- looks at each week that the ledger has, one index entry each.
CREATE OR REPLACE FUNCTION find_events(p_event_id text) RETURNS SETOF events
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
WITH RECURSIVE weeks AS (
    SELECT min(week) AS week FROM events
    UNION ALL
    SELECT (SELECT min(e.week) FROM events AS e WHERE e.week > d.week) FROM weeks AS d WHERE d.week IS NOT NULL
)
SELECT e.*
FROM weeks AS d
CROSS JOIN LATERAL (SELECT * FROM events AS k WHERE k.week = d.week AND k.event_id = p_event_id OFFSET 0) AS e
ORDER BY e.arrival_id
$$;
