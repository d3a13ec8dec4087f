-- name: list_other_calls(kinds, agent_id, since, until, after_called_at, after_arrival, limit)
-- Calls outside batches of the given kinds, oldest first, after a given one.
SELECT l.arrival_id, l.called_at, l.kind, l.agent_id, l.phone, l.conversation_id, l.status, l.started_at, l.ended_at,
       l.duration_seconds, l.failure_reason, l.parameters, l.results, l.source, l.event_id
FROM unnest(:kinds::text[]) AS k (kind)
CROSS JOIN LATERAL (
    (SELECT * FROM other_events AS o
     WHERE :agent_id::bigint IS NULL AND o.kind = k.kind AND o.is_counted
       AND (o.called_at, o.arrival_id) > (:after_called_at::timestamptz, :after_arrival::bigint)
       AND o.called_at >= :since::timestamptz AND o.called_at < :until::timestamptz
     ORDER BY o.called_at, o.arrival_id LIMIT :limit)
    UNION ALL
    (SELECT * FROM other_events AS o
     WHERE o.agent_id = :agent_id AND o.kind = k.kind AND o.is_counted
       AND (o.called_at, o.arrival_id) > (:after_called_at, :after_arrival)
       AND o.called_at >= :since AND o.called_at < :until
     ORDER BY o.called_at, o.arrival_id LIMIT :limit)
) AS l
ORDER BY l.called_at, l.arrival_id
LIMIT :limit;

-- name: count_other_calls_by_status(kinds, agent_id, since, until)
-- The number of calls outside batches that began on the given days (in UTC, both included), by agent, kind and status.
SELECT nullif(c.agent_id, 0) AS agent_id, c.kind, c.status, sum(c.calls)::bigint AS calls
FROM other_call_counts AS c
WHERE (:agent_id::bigint IS NULL OR c.agent_id = :agent_id) AND c.kind = ANY (:kinds::text[])
  AND c.day >= :since::date AND c.day <= :until::date
GROUP BY c.agent_id, c.kind, c.status
HAVING sum(c.calls) > 0
ORDER BY c.agent_id, c.kind, c.status;

-- name: list_unreferenced_bodies(after, limit)
-- Events without a reference, wherever they are placed unless by a person, and other waiting ones, by arrival, each with its
-- raw body while it is kept.
SELECT u.arrival_id, k.target, k.received_at, x.body
FROM (
    (SELECT arrival_id FROM unreferenced_events AS k
     WHERE k.arrival_id > :after AND NOT EXISTS (SELECT FROM assignments AS a WHERE a.arrival_id = k.arrival_id)
     ORDER BY k.arrival_id LIMIT :limit)
    UNION
    (SELECT arrival_id FROM unattributed WHERE arrival_id > :after ORDER BY arrival_id LIMIT :limit)
    ORDER BY arrival_id LIMIT :limit
) AS u
LEFT JOIN LATERAL (SELECT event_id, occurred_at FROM facts WHERE facts.arrival_id = u.arrival_id OFFSET 0) AS f ON true
LEFT JOIN LATERAL (SELECT event_id, occurred_at FROM unattributed WHERE unattributed.arrival_id = u.arrival_id OFFSET 0) AS w ON true
LEFT JOIN LATERAL find_arrival(coalesce(f.event_id, w.event_id), coalesce(f.occurred_at, w.occurred_at), u.arrival_id) AS k ON true
LEFT JOIN LATERAL (
    SELECT body FROM event_bodies AS b WHERE b.arrival_id = u.arrival_id AND b.recorded_at = k.recorded_at
) AS x ON true
ORDER BY u.arrival_id;

-- name: reclassify_calls(arrival_ids, kinds, phones)$
-- Moves events to the calls outside batches, as a rule that is new now says; returns how many moved.
SELECT reclassify_calls(:arrival_ids, :kinds, :phones);

-- name: clear_own_numbers(agent_ids, numbers)$
-- Forgets agents' own numbers that an older version stored as the phones of people who withheld theirs; returns how many.
WITH cleared AS (
    UPDATE other_events AS o SET phone = NULL
    FROM unnest(:agent_ids::bigint[], :numbers::text[]) AS n (agent_id, number)
    WHERE o.phone = n.number AND o.agent_id = n.agent_id AND o.kind = 'inbound'
    RETURNING 1
)
SELECT count(*) FROM cleared;

-- name: list_other_call_errors()
-- The counters of calls outside batches that differ from a recount, as of one instant.
SELECT coalesce(r.agent_id, c.agent_id) AS agent_id, coalesce(r.kind, c.kind) AS kind, coalesce(r.day, c.day) AS day,
       coalesce(r.status, c.status) AS status, coalesce(c.calls, 0) AS stored, coalesce(r.calls, 0) AS recounted
FROM (
    SELECT coalesce(agent_id, 0) AS agent_id, kind, (called_at AT TIME ZONE 'UTC')::date AS day, status, count(*) AS calls
    FROM other_events WHERE is_counted GROUP BY 1, 2, 3, 4
) AS r
FULL JOIN other_call_counts AS c USING (agent_id, kind, day, status)
WHERE coalesce(c.calls, 0) <> coalesce(r.calls, 0)
ORDER BY 1, 2, 3, 4;

-- name: list_other_bodies(after, limit)
-- Events of calls outside batches, by arrival, each with its digest and, while it is kept, its raw body.
SELECT o.arrival_id, o.event_id, k.digest, k.target, k.received_at, x.body, x.signature
FROM (SELECT * FROM other_events WHERE other_events.arrival_id > :after ORDER BY other_events.arrival_id LIMIT :limit) AS o
LEFT JOIN LATERAL find_arrival(o.event_id, o.occurred_at, o.arrival_id) AS k ON true
LEFT JOIN LATERAL (
    SELECT body, signature FROM event_bodies AS b WHERE b.arrival_id = o.arrival_id AND b.recorded_at = k.recorded_at
) AS x ON true
ORDER BY o.arrival_id;

-- name: get_rule_sweep(digest)^
-- How far a set of rules has been applied to earlier events; nothing before its first step.
SELECT cursor, ended_at FROM rule_sweeps WHERE digest = :digest;

-- name: save_rule_sweep(digest, cursor, moved, is_over)!
-- Records the progress of a set of rules, which never goes back, and adds the events that it moved.
INSERT INTO rule_sweeps AS r (digest, cursor, moved, ended_at)
VALUES (:digest, :cursor, :moved, CASE WHEN :is_over::boolean THEN clock_timestamp() END)
ON CONFLICT (digest) DO UPDATE
SET cursor = greatest(r.cursor, excluded.cursor), moved = r.moved + excluded.moved, updated_at = clock_timestamp(),
    ended_at = coalesce(r.ended_at, excluded.ended_at);

-- name: add_other_calls(agent_ids, kinds, days, statuses, differences)!
-- Adds what the counters of calls outside batches lack. They are kept by deltas, so it holds whatever came since the recount.
INSERT INTO other_call_counts AS c (agent_id, kind, day, status, calls)
SELECT * FROM unnest(:agent_ids::bigint[], :kinds::text[], :days::date[], :statuses::text[], :differences::bigint[])
ON CONFLICT (agent_id, kind, day, status) DO UPDATE SET calls = c.calls + excluded.calls;
