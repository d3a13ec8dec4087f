-- Consumers of the feed, one by its name or all, each with its lag. Up to p_counted entries are counted. A larger lag is
-- the distance between the positions, which counts every change of a recipient, and is_lag_exact is false. So the cost
-- does not depend on the lag. behind_since: when the first entry after its position changed.
CREATE OR REPLACE FUNCTION list_feed_consumers(p_name text, p_counted integer)
RETURNS TABLE (
    name text, "position" bigint, last_position bigint, lag bigint, is_lag_exact boolean, behind_since timestamptz,
    acknowledged_at timestamptz, created_at timestamptz
)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
SELECT c.name, c.position, e.last_position,
       CASE WHEN n.counted <= p_counted THEN n.counted ELSE e.last_position - c.position - g.skipped END,
       n.counted <= p_counted, f.changed_at, c.acknowledged_at, c.created_at
FROM feed_consumers AS c
CROSS JOIN (SELECT coalesce(max(position), 0) AS last_position FROM outcomes) AS e
CROSS JOIN LATERAL (
    -- Positions between two timelines never existed.
    SELECT coalesce(sum(t.first_position - t.previous_end - 1), 0)::bigint AS skipped
    FROM feed_timelines AS t
    WHERE t.first_position > c.position AND t.first_position <= e.last_position
) AS g
CROSS JOIN LATERAL (
    SELECT count(*) AS counted
    FROM (SELECT FROM outcomes AS o WHERE o.position > c.position ORDER BY o.position LIMIT p_counted + 1) AS t
) AS n
LEFT JOIN LATERAL (
    SELECT o.changed_at FROM outcomes AS o WHERE o.position > c.position ORDER BY o.position LIMIT 1
) AS f ON true
WHERE p_name IS NULL OR c.name = p_name
ORDER BY c.name
$$;

-- The entries after a position, as list_feed_consumers() counts those after a consumer's.
CREATE OR REPLACE FUNCTION count_feed(
    p_after bigint, p_counted integer, OUT last_position bigint, OUT entries bigint, OUT is_exact boolean
)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
SELECT e.last_position,
       CASE WHEN n.counted <= p_counted THEN n.counted ELSE e.last_position - p_after - g.skipped END,
       n.counted <= p_counted
FROM (SELECT coalesce(max(position), 0) AS last_position FROM outcomes) AS e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(t.first_position - t.previous_end - 1), 0)::bigint AS skipped
    FROM feed_timelines AS t
    WHERE t.first_position > p_after AND t.first_position <= e.last_position
) AS g
CROSS JOIN LATERAL (
    SELECT count(*) AS counted
    FROM (SELECT FROM outcomes AS o WHERE o.position > p_after ORDER BY o.position LIMIT p_counted + 1) AS t
) AS n
$$;

-- Records the position of a consumer, and creates an unknown one. Refusals change nothing:
--
--   beyond     the position is beyond the end of the feed (at), or belongs to a history that is gone
--   backwards  the consumer was further already (at), or may have read what is gone, and p_is_reset is false
--   full       there are p_limit consumers already
--
-- A position beyond what can be seen is taken when it was seen once and is gone since; behind the ingest lock that is
-- certain, because transactions that were in progress have then become visible, and no reader saw them before.
CREATE OR REPLACE FUNCTION acknowledge_feed(
    p_name text, p_position bigint, p_is_reset boolean, p_limit integer, p_tag text DEFAULT NULL,
    OUT refusal text, OUT at bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_end        bigint;
    v_is_cut_off boolean;
BEGIN
    -- One at a time, so that two new consumers cannot exceed the limit together.
    LOCK TABLE feed_consumers_lock IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT coalesce(max(o.position), 0) INTO at FROM outcomes AS o;
    IF p_position > at THEN
        LOCK TABLE ingest_lock IN SHARE MODE;
        IF p_position > (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM feed_positions AS s)
           OR EXISTS (SELECT FROM outcomes AS o WHERE o.position > at AND o.position <= p_position) THEN
            refusal := 'beyond';
            RETURN;
        END IF;
    END IF;
    SELECT t.previous_end INTO v_end
    FROM feed_timelines AS t
    WHERE t.first_position > p_position AND t.previous_end < p_position
    ORDER BY t.first_position LIMIT 1;
    IF FOUND THEN
        refusal := 'beyond';
        at := v_end;
        RETURN;
    END IF;
    SELECT c.position, c.is_cut_off INTO at, v_is_cut_off FROM feed_consumers AS c WHERE c.name = p_name;
    IF NOT FOUND AND (SELECT count(*) FROM feed_consumers) >= p_limit THEN
        refusal := 'full';
    ELSIF (at > p_position OR v_is_cut_off) AND NOT p_is_reset THEN
        refusal := 'backwards';
    ELSE
        INSERT INTO feed_consumers AS c (name, position, tag) VALUES (p_name, p_position, p_tag)
        ON CONFLICT (name) DO UPDATE
        SET position = excluded.position, acknowledged_at = clock_timestamp(), is_cut_off = false,
            tag = coalesce(excluded.tag, c.tag);
    END IF;
END
$$;
