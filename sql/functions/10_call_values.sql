-- What is counted of a call in call_counts, by name. Long text is not a category: it is counted together, as in
-- result_values().
CREATE OR REPLACE FUNCTION call_values(p_from_phone text, p_failure_reason text) RETURNS TABLE (name text, value text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2
AS $$
SELECT v.name, CASE WHEN length(v.value) > 80 THEN '(long text)' ELSE v.value END
FROM (VALUES ('from_phone', p_from_phone), ('failure_reason', p_failure_reason)) AS v (name, value)
WHERE v.value <> ''
$$;
