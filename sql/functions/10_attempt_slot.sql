-- The quarter of an hour in which a call began: the finest unit of any time zone's offset.
CREATE OR REPLACE FUNCTION attempt_slot(called_at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE
    WHEN isfinite(called_at) THEN date_bin('15 minutes', called_at, '2000-01-01 00:00:00+00')
    ELSE '-infinity'
END
$$;
