-- The steps of an erasure that read bodies, because only a body shows whom it names: unattributed events, quarantine, and
-- all other stored bodies. A step reads some bodies without any lock, in the order of their ids; then one small commit
-- erases those that name the person, and moves the cursor. So after a crash a step is either done or not, and of two
-- processes that read the same bodies only one commits.

-- The current step of an erasure. 'bodies' is the first part of the step that earlier versions call 'late'.
CREATE OR REPLACE FUNCTION name_erasure_step(p_erasure erasures) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
SELECT CASE WHEN p_erasure.step = 'late' AND p_erasure.searched_at IS NULL THEN 'bodies' ELSE p_erasure.step END
$$;

-- The next bodies of a step: at most p_rows, and at most p_bytes in total, except that the first may be larger; each with
-- the number that its call was made from, which is stored for longer than its body.
DO $do$
BEGIN
    -- Replacing cannot change the columns.
    IF (SELECT proargnames FROM pg_proc WHERE oid = to_regproc('read_unsearched')) IS DISTINCT FROM
       '{p_step,p_after,p_rows,p_bytes,id,body,phone,from_phone}'::text[] THEN
        DROP FUNCTION IF EXISTS read_unsearched(text, bigint, integer, bigint);
    END IF;
END
$do$;
CREATE OR REPLACE FUNCTION read_unsearched(p_step text, p_after bigint, p_rows integer, p_bytes bigint)
RETURNS TABLE (id bigint, body bytea, phone text, from_phone text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    IF p_step = 'unattributed' THEN
        RETURN QUERY
        SELECT t.arrival_id, t.body, t.phone, t.from_phone
        FROM (
            SELECT u.arrival_id, b.body, u.phone, u.from_phone,
                   sum(octet_length(b.body)) OVER w AS bytes, row_number() OVER w AS nth
            FROM (SELECT w.arrival_id, w.phone, w.from_phone FROM unattributed AS w
                  WHERE w.arrival_id > p_after ORDER BY w.arrival_id LIMIT p_rows) AS u
            LEFT JOIN event_bodies AS b ON b.arrival_id = u.arrival_id
            WINDOW w AS (ORDER BY u.arrival_id)
        ) AS t
        WHERE coalesce(t.bytes, 0) <= p_bytes OR t.nth = 1;
    ELSIF p_step = 'quarantine' THEN
        RETURN QUERY
        SELECT t.quarantine_id, t.body, NULL, NULL
        FROM (
            SELECT q.quarantine_id, q.body, sum(octet_length(q.body)) OVER w AS bytes, row_number() OVER w AS nth
            FROM (SELECT k.quarantine_id, k.body FROM quarantine AS k
                  WHERE k.quarantine_id > p_after ORDER BY k.quarantine_id LIMIT p_rows) AS q
            WINDOW w AS (ORDER BY q.quarantine_id)
        ) AS t
        WHERE t.bytes <= p_bytes OR t.nth = 1;
    ELSE
        RETURN QUERY
        WITH found AS MATERIALIZED (
            (SELECT k.arrival_id, k.body, NULL AS from_phone FROM event_bodies AS k
             WHERE k.arrival_id > p_after ORDER BY k.arrival_id LIMIT p_rows)
            UNION ALL
            (SELECT k.arrival_id, NULL, k.from_phone FROM facts AS k
             WHERE k.arrival_id > p_after AND k.from_phone IS NOT NULL ORDER BY k.arrival_id LIMIT p_rows)
            UNION ALL
            (SELECT k.arrival_id, NULL, k.from_phone FROM past_facts AS k
             WHERE k.arrival_id > p_after AND k.from_phone IS NOT NULL ORDER BY k.arrival_id LIMIT p_rows)
        ), page AS (
            -- An event has at most one body.
            SELECT f.arrival_id, (array_agg(f.body) FILTER (WHERE f.body IS NOT NULL))[1] AS body,
                   max(f.from_phone) AS from_phone, coalesce(sum(octet_length(f.body)), 0) AS size
            FROM found AS f
            GROUP BY f.arrival_id
            ORDER BY f.arrival_id
            LIMIT p_rows
        )
        SELECT t.arrival_id, t.body, NULL, t.from_phone
        FROM (
            SELECT g.*, sum(g.size) OVER w AS bytes, row_number() OVER w AS nth FROM page AS g
            WINDOW w AS (ORDER BY g.arrival_id)
        ) AS t
        WHERE t.bytes <= p_bytes OR t.nth = 1;
    END IF;
END
$$;

-- Ends a step over the ids after p_after up to p_last, of which p_named name the person; p_last null: there were none, so
-- the next step begins. p_callers: those of them whose calls were made from the person's phone. Returns the step that
-- follows; null if another process was faster.
DROP FUNCTION IF EXISTS erase_named(bigint, text, bigint, bigint, bigint[], integer);
CREATE OR REPLACE FUNCTION erase_named(
    p_erasure_id bigint, p_step text, p_after bigint, p_last bigint, p_named bigint[], p_read integer,
    p_callers bigint[] DEFAULT '{}'
) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_erasure erasures;
    v_count   integer := 0;
    v_bodies  integer := 0;
    v_callers integer := 0;  -- recipients, and the bodies of their other calls
    v_others  integer := 0;
BEGIN
    SELECT * INTO v_erasure FROM erasures WHERE erasure_id = p_erasure_id FOR UPDATE;
    IF name_erasure_step(v_erasure) IS DISTINCT FROM p_step OR v_erasure.cursor <> p_after THEN
        RETURN NULL;
    END IF;
    IF cardinality(p_named) = 0 THEN
        NULL;
    ELSIF p_step = 'quarantine' THEN
        UPDATE quarantine AS q
        SET body = '', signature = NULL, event_id = NULL, erased_at = clock_timestamp(),
            replayed_at = coalesce(q.replayed_at, clock_timestamp())
        WHERE q.quarantine_id = ANY (p_named);
        GET DIAGNOSTICS v_count = ROW_COUNT;
    ELSE
        PERFORM lock_ingest();
        v_bodies := delete_bodies(p_named);
        PERFORM erase_other_calls(p_named);
        DELETE FROM unattributed WHERE arrival_id = ANY (p_named);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        DELETE FROM unreferenced_events WHERE arrival_id = ANY (p_named);
        SELECT c.recipients, c.bodies INTO v_callers, v_others FROM erase_callers(p_callers, v_erasure.phone_hash) AS c;
    END IF;
    UPDATE erasures AS e
    SET unattributed = e.unattributed + CASE WHEN p_step = 'quarantine' THEN 0 ELSE v_count END,
        quarantined = e.quarantined + CASE WHEN p_step = 'quarantine' THEN v_count ELSE 0 END,
        recipients = e.recipients + v_callers, bodies = e.bodies + v_bodies + v_others, bodies_read = e.bodies_read + p_read, cursor = coalesce(p_last, 0),
        step = CASE WHEN p_last IS NOT NULL THEN e.step
                    WHEN p_step = 'unattributed' THEN 'quarantine'
                    WHEN p_step = 'quarantine' THEN 'held'
                    ELSE 'late' END,
        searched_at = CASE WHEN p_step = 'bodies' AND p_last IS NULL THEN clock_timestamp() ELSE e.searched_at END
    WHERE e.erasure_id = p_erasure_id
    RETURNING * INTO v_erasure;
    RETURN name_erasure_step(v_erasure);
END
$$;
