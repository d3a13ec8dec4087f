-- Gives entries of a batch a new position, because readers may have seen them before its id was known: those of the given
-- batch, or of any batch that waits for this. At most p_rows recipients, under the ingest lock; returns true while there
-- may be more to do. Positions after until_position were taken after the id was committed, and never seen without it.
CREATE OR REPLACE FUNCTION move_feed_entries(p_batch_key bigint, p_rows integer) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_move  feed_moves;
    v_found integer;
    v_last  integer;
BEGIN
    SELECT * INTO v_move
    FROM feed_moves
    WHERE p_batch_key IS NULL OR batch_key = p_batch_key
    ORDER BY batch_key LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM lock_ingest();
    SELECT count(*), max(t.recipient_no) INTO v_found, v_last
    FROM (SELECT recipient_no FROM outcomes
          WHERE batch_key = v_move.batch_key AND recipient_no > v_move.cursor
          ORDER BY recipient_no LIMIT p_rows) AS t;
    UPDATE outcomes
    SET position = nextval('feed_positions'), version = version + 1, changed_at = clock_timestamp()
    WHERE batch_key = v_move.batch_key AND recipient_no > v_move.cursor AND recipient_no <= v_last
      AND position <= v_move.until_position;
    IF v_found = p_rows THEN
        UPDATE feed_moves SET cursor = v_last WHERE batch_key = v_move.batch_key;
    ELSE
        DELETE FROM feed_moves WHERE batch_key = v_move.batch_key;
    END IF;
    RETURN true;
END
$$;
