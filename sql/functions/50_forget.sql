-- Retention: each call is one small commit, and returns how much it did; 0: nothing was left to do. Nothing here changes
-- the counters.

-- Raw bodies, by month: a partition is detached, unattributed events move out of it, then it is dropped. After a crash the
-- next call continues with the detached partition. It never waits for the table lock: webhooks would wait behind it.
CREATE OR REPLACE FUNCTION forget_bodies(p_before timestamptz, p_rows integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET lock_timeout = '200ms'
SET timezone = 'UTC'
AS $$
DECLARE
    v_name  text;
    v_moved integer;
BEGIN
    LOCK TABLE body_partitions_lock IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT c.relname INTO v_name
    FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
      AND c.relname ~ '^event_bodies_[0-9]{4}_[0-9]{2}$'
    LIMIT 1;
    IF v_name IS NOT NULL THEN
        EXECUTE format(
            'WITH moved AS (
                 INSERT INTO event_bodies
                 SELECT d.* FROM unattributed AS u JOIN %I AS d ON d.arrival_id = u.arrival_id
                 WHERE NOT EXISTS (SELECT FROM event_bodies AS b WHERE b.arrival_id = d.arrival_id)
                 LIMIT $1 RETURNING 1)
             SELECT count(*) FROM moved', v_name)
        INTO v_moved USING p_rows;
        IF v_moved < p_rows THEN
            EXECUTE format('DROP TABLE %I', v_name);
        END IF;
        RETURN 1 + v_moved;
    END IF;
    SELECT c.relname INTO v_name
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'event_bodies'::regclass AND c.relname ~ '^event_bodies_[0-9]{4}_[0-9]{2}$'
      AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= p_before
    ORDER BY c.relname
    LIMIT 1;
    IF v_name IS NOT NULL THEN
        EXECUTE format('ALTER TABLE event_bodies DETACH PARTITION %I', v_name);
        RETURN 1;
    END IF;
    -- A body that moved out of a month is deleted once its event is placed.
    WITH old AS (
        SELECT d.arrival_id, d.recorded_at
        FROM event_bodies_default AS d
        WHERE d.recorded_at < p_before
          AND NOT EXISTS (SELECT FROM unattributed AS u WHERE u.arrival_id = d.arrival_id)
        LIMIT p_rows
    ), gone AS (
        DELETE FROM event_bodies_default AS d
        USING old
        WHERE d.arrival_id = old.arrival_id AND d.recorded_at = old.recorded_at
        RETURNING 1
    )
    SELECT count(*) INTO v_moved FROM gone;
    RETURN v_moved;
END
$$;

-- Phones and parameters of batches that have been quiet for long enough, and will not be dialled any more; then those of
-- calls outside batches.
CREATE OR REPLACE FUNCTION forget_people(p_before timestamptz, p_rows integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_batch batches;
    v_after integer;
BEGIN
    SELECT b.* INTO v_batch
    FROM batches AS b
    WHERE b.people_forgotten_at IS NULL AND b.prepared_at < p_before
      AND b.upload_state IN ('uploaded', 'failed') AND coalesce(b.sent_at < p_before, true)
      AND NOT EXISTS (SELECT FROM batch_activity AS a WHERE a.batch_key = b.batch_key AND a.last_event_at >= p_before)
      AND NOT EXISTS (SELECT FROM registrations AS r WHERE r.batch_key = b.batch_key AND r.step <> 'done')
    ORDER BY b.prepared_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN forget_other_calls(p_before, p_rows);
    END IF;
    PERFORM lock_ingest();
    v_after := coalesce(v_batch.people_cursor, 0);
    DELETE FROM unreferenced_events AS u
    USING facts AS f
    WHERE f.batch_key = v_batch.batch_key AND f.recipient_no > v_after AND f.recipient_no <= v_after + p_rows
      AND u.arrival_id = f.arrival_id;
    DELETE FROM reference_contradictions AS x
    WHERE x.batch_key = v_batch.batch_key AND x.recipient_no > v_after AND x.recipient_no <= v_after + p_rows;
    UPDATE recipients AS r
    SET phone = NULL, parameters = '{}'
    WHERE r.batch_key = v_batch.batch_key AND r.recipient_no > v_after AND r.recipient_no <= v_after + p_rows;
    UPDATE callback_marks AS m
    SET note = NULL
    WHERE m.batch_key = v_batch.batch_key AND m.recipient_no > v_after AND m.recipient_no <= v_after + p_rows;
    UPDATE batches AS b
    SET people_cursor = v_after + p_rows,
        people_forgotten_at = CASE WHEN v_after + p_rows >= b.recipient_count THEN clock_timestamp() END
    WHERE b.batch_key = v_batch.batch_key;
    RETURN greatest(1, least(p_rows, v_batch.recipient_count - v_after));
END
$$;

-- Lines of the audit log. A function of its own, because the service's role may not delete any.
CREATE OR REPLACE FUNCTION forget_audit(p_before timestamptz, p_rows integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE
    v_gone integer;
BEGIN
    IF p_before > clock_timestamp() - interval '1 day' THEN
        RAISE EXCEPTION 'the audit log is kept for a day at least' USING ERRCODE = 'insufficient_privilege';
    END IF;
    WITH gone AS (
        DELETE FROM audit_log
        WHERE audit_id IN (SELECT audit_id FROM audit_log WHERE recorded_at < p_before ORDER BY recorded_at LIMIT p_rows)
        RETURNING 1
    )
    SELECT count(*) INTO v_gone FROM gone;
    RETURN v_gone;
END
$$;
