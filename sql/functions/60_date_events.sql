-- Finds the week of events that an older version stored, in some more pages of the table; returns how many, null once it has
-- reached the end. Until then, and if nothing says when an event was, ingest() knows it by its id alone. One with conflicts
-- stays so, since they are known by it: a group that is storing one is waited for.
CREATE OR REPLACE FUNCTION date_events_step(p_pages integer) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET lock_timeout = '200ms'
AS $$
DECLARE
    v_end   CONSTANT bigint := 4294967295;  -- beyond the pages of any table: later events have their week
    v_from  bigint;
    v_dated bigint;
BEGIN
    LOCK TABLE event_conflicts IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO repairs (name) VALUES ('event_weeks') ON CONFLICT DO NOTHING;
    SELECT cursor INTO v_from FROM repairs WHERE name = 'event_weeks';
    IF v_from * current_setting('block_size')::bigint >= pg_relation_size('events') THEN
        UPDATE repairs SET cursor = v_end WHERE name = 'event_weeks' AND cursor < v_end;
        RETURN NULL;
    END IF;
    WITH found AS MATERIALIZED (
        SELECT e.place, event_week(k.occurred_at) AS week
        FROM (
            SELECT ctid AS place, week, event_id, arrival_id FROM events
            WHERE ctid >= format('(%s,0)', v_from)::tid AND ctid < format('(%s,0)', v_from + p_pages)::tid
            OFFSET 0
        ) AS e
        CROSS JOIN LATERAL (
            SELECT f.occurred_at FROM facts AS f WHERE f.arrival_id = e.arrival_id
            UNION ALL
            SELECT u.occurred_at FROM unattributed AS u WHERE u.arrival_id = e.arrival_id
            UNION ALL
            SELECT o.occurred_at FROM other_events AS o WHERE o.arrival_id = e.arrival_id
        ) AS k
        WHERE e.week = '-infinity' AND NOT EXISTS (SELECT FROM event_conflicts AS c WHERE c.event_id = e.event_id)
    )
    UPDATE events AS e SET week = f.week FROM found AS f WHERE e.ctid = f.place AND f.week > '-infinity';
    GET DIAGNOSTICS v_dated = ROW_COUNT;
    UPDATE repairs SET cursor = v_from + p_pages, corrected = corrected + v_dated, updated_at = clock_timestamp()
    WHERE name = 'event_weeks';
    RETURN v_dated;
END
$$;
