-- Where these data are: the cluster, the database in it, and the timeline of its WAL. Null if the server does not reveal
-- it; then only a person can say that the feed lost its end.
CREATE OR REPLACE FUNCTION read_server_identity(
    OUT system_identifier bigint, OUT database_oid bigint, OUT wal_timeline text
)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT s.system_identifier INTO system_identifier FROM pg_control_system() AS s;
    SELECT d.oid::bigint INTO database_oid FROM pg_database AS d WHERE d.datname = current_database();
    -- Not the timeline of pg_control_checkpoint(), which after a promotion is the old one until the next checkpoint.
    wal_timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION
    WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
        system_identifier := NULL;
        database_oid := NULL;
        wal_timeline := NULL;
END
$$;

-- Opens a timeline of the feed: positions continue beyond all that any history of this database can have taken. With
-- p_is_cut_off named consumers must be reset, because what they acknowledged may be gone too. For the owner.
CREATE OR REPLACE FUNCTION open_feed_timeline(
    p_reason text, p_is_cut_off boolean, OUT previous_end bigint, OUT first_position bigint
)
LANGUAGE plpgsql
AS $$
DECLARE
    v_server record;
BEGIN
    PERFORM lock_ingest();
    SELECT coalesce(max(o.position), 0) INTO previous_end FROM outcomes AS o;
    SELECT greatest(s.last_value + 2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    INTO first_position FROM feed_positions AS s;
    PERFORM setval('feed_positions', first_position - 1);
    v_server := read_server_identity();
    INSERT INTO feed_timelines (previous_end, first_position, reason, system_identifier, database_oid, wal_timeline)
    VALUES (previous_end, first_position, p_reason, v_server.system_identifier, v_server.database_oid,
            v_server.wal_timeline);
    IF p_is_cut_off THEN
        UPDATE feed_consumers SET is_cut_off = true;
    END IF;
END
$$;

-- Opens a timeline if these data have moved to another server since the last call, and returns why; null if they have not.
-- Each connection of the service calls this before anything else, so no position is taken in between.
CREATE OR REPLACE FUNCTION note_server() RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER  -- the service's role may take positions one by one, but not set them
SET search_path = public, pg_temp
AS $$
DECLARE
    v_server record := read_server_identity();
    v_last   feed_timelines;
    v_reason text;
BEGIN
    -- First without the lock, because the answer is nearly always the same; then under it, because others check too.
    FOR i IN 1 .. 2 LOOP
        SELECT * INTO v_last FROM feed_timelines ORDER BY timeline_id DESC LIMIT 1;
        IF v_last.system_identifier = v_server.system_identifier AND v_last.database_oid = v_server.database_oid
           AND v_last.wal_timeline = v_server.wal_timeline OR v_server.system_identifier IS NULL THEN
            RETURN NULL;
        END IF;
        PERFORM lock_ingest();
    END LOOP;
    IF v_last.timeline_id IS NULL OR NOT EXISTS (SELECT FROM outcomes) THEN
        -- No entry was published yet that could be lost, or the server was never recorded.
        INSERT INTO feed_timelines (previous_end, first_position, reason, system_identifier, database_oid, wal_timeline)
        SELECT s.last_value, s.last_value + 1, 'begun', v_server.system_identifier, v_server.database_oid,
               v_server.wal_timeline
        FROM feed_positions AS s
        ON CONFLICT (first_position) DO UPDATE
        SET system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
            wal_timeline = excluded.wal_timeline;
        RETURN NULL;
    END IF;
    v_reason := CASE
        WHEN v_last.system_identifier = v_server.system_identifier AND v_last.database_oid = v_server.database_oid
        THEN 'failover'
        ELSE 'moved'
    END;
    PERFORM open_feed_timeline(v_reason, v_reason = 'moved');
    RETURN v_reason;
END
$$;

REVOKE EXECUTE ON FUNCTION open_feed_timeline FROM PUBLIC;
