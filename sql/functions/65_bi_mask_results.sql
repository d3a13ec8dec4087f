-- Whether a result is shown, by its name alone. Shown names are exact. Hidden names are ILIKE patterns, and apply to all
-- names that are not explicitly shown. For a closed agent everything is hidden that is not explicitly shown.
CREATE OR REPLACE FUNCTION bi_hides_result(name text, shown text[], hidden text[], is_closed boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT name <> ALL (shown) AND (is_closed OR name ILIKE ANY (hidden));
END;

-- Results as categories: only the names of hidden ones, a placeholder for long text, and nothing that looks like a phone or
-- an address. Null stays null.
CREATE OR REPLACE FUNCTION bi_mask_results(results jsonb, shown text[], hidden text[], is_closed boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE WHEN results IS NOT NULL THEN coalesce(
    jsonb_object_agg(bi_mask_text(r.key), CASE
        WHEN bi_hides_result(r.key, shown, hidden, is_closed) THEN to_jsonb('(hidden)'::text)
        WHEN length(r.value #>> '{}') > 80 THEN to_jsonb('(long text)'::text)
        ELSE bi_mask_value(r.value)
    END), '{}')
END
FROM jsonb_each(CASE WHEN jsonb_typeof(results) = 'object' THEN results ELSE '{}' END) AS r;
END;
