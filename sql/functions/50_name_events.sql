-- The signature of the version before, which then calls this one.
DROP FUNCTION IF EXISTS name_events(text[], bytea[], integer, integer);

-- The events of a group just committed that came with another body than before, and those that fit no recipient or
-- several: at most so many of each, for the log.
CREATE OR REPLACE FUNCTION name_events(
    p_event_ids text[], p_digests bytea[], p_conflicts integer, p_unattributed integer,
    p_occurred_at timestamptz[] DEFAULT NULL
)
RETURNS TABLE (event_id text, disposition text, reason text)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
(SELECT e.event_id, 'conflict', NULL
 FROM (SELECT unnest(p_event_ids) AS event_id, unnest(p_digests) AS digest) AS e
 CROSS JOIN LATERAL (
     SELECT FROM event_conflicts AS c WHERE c.event_id = e.event_id AND c.digest = e.digest OFFSET 0
 ) AS c
 LIMIT p_conflicts)
UNION ALL
(SELECT e.event_id, 'unattributed', u.reason
 FROM unnest(p_event_ids, p_occurred_at) AS e (event_id, occurred_at)
 CROSS JOIN LATERAL (SELECT k.arrival_id FROM events AS k
                     WHERE k.week = ANY (event_weeks(e.occurred_at)) AND k.event_id = e.event_id OFFSET 0) AS k
 CROSS JOIN LATERAL (SELECT w.reason FROM unattributed AS w WHERE w.arrival_id = k.arrival_id OFFSET 0) AS u
 LIMIT p_unattributed)
$$;
