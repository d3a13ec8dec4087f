-- A JSON value without what looks like a phone or an address; as text if something was masked. A fraction is not a phone,
-- except a phone that a program read as a number (9876543210.0).
CREATE OR REPLACE FUNCTION bi_mask_value(value jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    WHEN jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^-?[0-9]{1,6}[.]' THEN value
    WHEN m.masked <> value #>> '{}' THEN to_jsonb(m.masked)
    ELSE value
END
FROM (SELECT bi_mask_text(value #>> '{}') AS masked) AS m;
END;
