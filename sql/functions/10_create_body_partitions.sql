-- Creates the partitions of event_bodies for the month of p_from and the months after it, p_months in all. Bodies that
-- came while a month was missing move from the default partition. Safe to call at any time, even concurrently.
CREATE OR REPLACE FUNCTION create_body_partitions(p_from timestamptz, p_months integer) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER  -- so that the service's role needs no right to create tables
SET search_path = public, pg_temp
SET timezone = 'UTC'  -- in a zone with summer time, adding a month would not end at midnight UTC
AS $$
DECLARE
    v_start timestamptz;
    v_end   timestamptz;
    v_name  text;
BEGIN
    LOCK TABLE body_partitions_lock IN SHARE UPDATE EXCLUSIVE MODE;
    FOR v_month IN 0 .. p_months - 1 LOOP
        v_start := date_trunc('month', p_from, 'UTC') + make_interval(months => v_month);
        v_end := v_start + interval '1 month';
        v_name := 'event_bodies_' || to_char(v_start AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass(v_name) IS NOT NULL;
        -- Locks the parent, or an insert already on its way to the default partition would be refused there.
        LOCK TABLE ONLY event_bodies IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE event_bodies INCLUDING ALL)', v_name);
        LOCK TABLE event_bodies_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM event_bodies_default WHERE recorded_at >= %L AND recorded_at < %L RETURNING *)
             INSERT INTO %I SELECT * FROM moved', v_start, v_end, v_name);
        EXECUTE format('ALTER TABLE event_bodies ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', v_name, v_start, v_end);
    END LOOP;
END
$$;
