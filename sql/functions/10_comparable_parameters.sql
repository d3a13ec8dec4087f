-- Call parameters in the form used to compare: the provider may leave out a file's empty cell, send null for it, or 4.0
-- for 4. Empty and null parameters are absent; text that reads as a decimal number is that number; other values are text
-- without surrounding spaces. '{}' if nothing is left. The stored parameters stay as they were sent.
CREATE OR REPLACE FUNCTION comparable_parameters(p_parameters jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
SELECT coalesce(jsonb_object_agg(e.key, CASE
    WHEN t.said IS NULL THEN e.value
    WHEN t.said ~ '^-?[0-9]{1,100}([.][0-9]{1,100})?$' THEN to_jsonb(t.said::numeric)
    ELSE to_jsonb(t.said)
END), '{}')
FROM jsonb_each(p_parameters) AS e
CROSS JOIN LATERAL (
    SELECT CASE WHEN jsonb_typeof(e.value) <> 'number'
                THEN btrim(coalesce(e.value #>> '{}', ''), E' \t\n\v\f\r\u00a0') END AS said
) AS t
WHERE t.said IS DISTINCT FROM ''
$$;
