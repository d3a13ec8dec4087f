-- Call parameters with all their names, but only the values that may be shown, without what looks like a phone; the other
-- values are null.
CREATE OR REPLACE FUNCTION bi_mask_parameters(parameters jsonb, shown text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT coalesce(jsonb_object_agg(
    bi_mask_text(p.key), CASE WHEN p.key = ANY (shown) THEN bi_mask_value(p.value) ELSE 'null' END
), '{}')
FROM jsonb_each(CASE WHEN jsonb_typeof(parameters) = 'object' THEN parameters ELSE '{}' END) AS p;
END;
