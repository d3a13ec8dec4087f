-- The minute in which a retry is due; infinity if the provider gave no time.
CREATE OR REPLACE FUNCTION retry_slot(next_retry_at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE
    WHEN isfinite(next_retry_at) THEN date_bin('1 minute', next_retry_at, '2000-01-01 00:00:00+00')
    ELSE 'infinity'
END
$$;
