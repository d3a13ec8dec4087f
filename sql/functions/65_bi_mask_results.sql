-- Results as categories: hidden ones by their names alone, long text as such, and nothing that looks like a phone or an
-- address. Null stays null.
CREATE OR REPLACE FUNCTION bi_mask_results(results jsonb, hidden text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE WHEN results IS NOT NULL THEN coalesce(
    jsonb_object_agg(r.key, CASE
        WHEN r.key = ANY (hidden) THEN to_jsonb('(hidden)'::text)
        WHEN length(t.content) > 80 THEN to_jsonb('(long text)'::text)
        WHEN m.masked <> t.content THEN to_jsonb(m.masked)
        ELSE r.value
    END), '{}')
END
FROM jsonb_each(CASE WHEN jsonb_typeof(results) = 'object' THEN results ELSE '{}' END) AS r
CROSS JOIN LATERAL (SELECT r.value #>> '{}' AS content) AS t
CROSS JOIN LATERAL (SELECT bi_mask_text(t.content) AS masked) AS m;
END;
