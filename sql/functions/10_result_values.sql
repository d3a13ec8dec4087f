-- The values of a results object that are counted, as text. Long text and nested values are not categories: they are
-- counted together, as is everything beyond 64 keys or in a key over 80 characters.
CREATE OR REPLACE FUNCTION result_values(results jsonb) RETURNS TABLE (name text, value text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 4
AS $$
    SELECT e.key,
           CASE
               WHEN e.value IS NULL THEN '(null)'
               WHEN length(e.value) > 80 THEN '(long text)'
               ELSE e.value
           END
    FROM jsonb_each_text(CASE WHEN jsonb_typeof(results) = 'object' THEN results ELSE '{}' END) AS e
    WHERE length(e.key) <= 80
    LIMIT 64
$$;
