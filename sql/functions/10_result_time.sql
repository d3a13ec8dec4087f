-- The instant that a result means if it is a day or a time in ISO 8601, else null. A day means its midnight; a day, and a
-- time without an offset, are those of a time zone.
CREATE OR REPLACE FUNCTION result_time(p_text text, p_time_zone text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    IF p_text !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?$' THEN
        RETURN NULL;
    ELSIF p_text ~ '(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' AND length(p_text) > 10 THEN
        RETURN p_text::timestamptz;
    END IF;
    RETURN p_text::timestamp AT TIME ZONE p_time_zone;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_time_zone_displacement_value THEN
    RETURN NULL;  -- such as 31 February
END
$$;
