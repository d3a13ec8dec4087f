-- The start of the range in which a talk time is counted: exact below 64 seconds, then within a 32nd of it, so that a
-- batch has at most 289 ranges. service/outcomes/figures.py has the same widths.
CREATE OR REPLACE FUNCTION talk_time_slot(duration_seconds integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE
    WHEN duration_seconds < 64 THEN greatest(duration_seconds, 0)
    WHEN duration_seconds < 128 THEN duration_seconds & -2
    WHEN duration_seconds < 256 THEN duration_seconds & -4
    WHEN duration_seconds < 512 THEN duration_seconds & -8
    WHEN duration_seconds < 1024 THEN duration_seconds & -16
    WHEN duration_seconds < 2048 THEN duration_seconds & -32
    WHEN duration_seconds < 4096 THEN duration_seconds & -64
    WHEN duration_seconds < 8192 THEN duration_seconds & -128
    ELSE 8192
END
$$;
