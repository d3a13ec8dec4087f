-- A page of the feed: the latest state of each recipient that changed after p_after, in the order of these changes.
-- One statement, and so of one instant. Positions are taken under the ingest lock, which is released after the commit, so
-- a reader that sees a position sees every one before it. A recipient that changes in between comes later instead.
--
-- At most p_limit entries, and no more once parameters and results reach p_bytes; has_more of the last entry says whether
-- there are more. Plans live long, and use the index of positions.
--
-- goal_met is by the goal in force when the page is read. Only the entries of the page pay for it and for the callbacks.
--
-- Returns nothing after a position of a history that is gone (feed_timelines): its reader must get an error, not continue.
CREATE OR REPLACE FUNCTION read_feed_page(p_after bigint, p_limit integer, p_bytes bigint)
RETURNS TABLE (
    "position" bigint, batch_id bigint, recipient integer, phone text, parameters text, state text, status text,
    is_final boolean, attempts integer, duration_seconds integer, results text, failure_reason text,
    next_retry_at timestamptz, last_attempt_at timestamptz, conversation_id text, source text, version integer,
    goal_met boolean, callbacks text, has_more boolean
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT e.position, e.batch_id, e.recipient, e.phone, e.parameters, e.state, e.status, e.is_final, e.attempts,
           e.duration_seconds, e.results, e.failure_reason, e.next_retry_at, e.last_attempt_at, e.conversation_id,
           e.source, e.version, shown_goal(e.goal, e.status, e.known_results),
           show_callbacks(e.batch_key, e.recipient)::text, e.nth < e.found
    FROM (
        SELECT t.*, row_number() OVER so_far AS nth, count(*) OVER () AS found,
               sum(t.size_bytes) OVER so_far - t.size_bytes AS bytes_before
        FROM (
            SELECT s.*, octet_length(s.parameters) + coalesce(octet_length(s.results), 0) AS size_bytes
            FROM (
                SELECT p.position, p.batch_key, b.batch_id, r.recipient, r.phone, r.parameters::text, r.state, r.status, r.is_final,
                       r.attempts, r.duration_seconds, r.results::text, r.failure_reason, r.next_retry_at,
                       r.last_attempt_at, r.conversation_id, r.source, r.version,
                       r.results AS known_results,
                       (SELECT g.rule FROM batch_goals AS g WHERE g.batch_key = p.batch_key) AS goal
                FROM (
                    SELECT o.position, o.batch_key, o.recipient_no
                    FROM outcomes AS o
                    WHERE o.position > p_after
                      AND NOT EXISTS (SELECT FROM feed_timelines AS t
                                      WHERE t.first_position > p_after AND t.previous_end < p_after)
                    ORDER BY o.position
                    LIMIT p_limit + 1
                ) AS p
                LEFT JOIN LATERAL (
                    SELECT batches.batch_id FROM batches WHERE batches.batch_key = p.batch_key OFFSET 0
                ) AS b ON true
                CROSS JOIN LATERAL show_recipient(p.batch_key, p.recipient_no) AS r
                OFFSET 0
            ) AS s
        ) AS t
        WINDOW so_far AS (ORDER BY t.position)
    ) AS e
    WHERE e.nth <= p_limit AND e.bytes_before < p_bytes
    ORDER BY e.position;
END
$$;

-- The same for the version before, which does not know goal_met.
CREATE OR REPLACE FUNCTION read_feed(p_after bigint, p_limit integer, p_bytes bigint)
RETURNS TABLE (
    "position" bigint, batch_id bigint, recipient integer, phone text, parameters text, state text, status text,
    is_final boolean, attempts integer, duration_seconds integer, results text, failure_reason text,
    next_retry_at timestamptz, last_attempt_at timestamptz, conversation_id text, source text, version integer,
    has_more boolean
)
LANGUAGE sql STABLE
AS $$
SELECT p.position, p.batch_id, p.recipient, p.phone, p.parameters, p.state, p.status, p.is_final, p.attempts,
       p.duration_seconds, p.results, p.failure_reason, p.next_retry_at, p.last_attempt_at, p.conversation_id, p.source,
       p.version, p.has_more
FROM read_feed_page(p_after, p_limit, p_bytes) AS p
$$;
