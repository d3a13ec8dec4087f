-- A JSON value without what looks like a phone or an address; as text where something had to go. A fraction is no phone.
CREATE OR REPLACE FUNCTION bi_mask_value(value jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    WHEN jsonb_typeof(value) = 'number' AND value #>> '{}' LIKE '%.%' THEN value
    WHEN m.masked <> value #>> '{}' THEN to_jsonb(m.masked)
    ELSE value
END
FROM (SELECT bi_mask_text(value #>> '{}') AS masked) AS m;
END;
