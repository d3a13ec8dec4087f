-- Whether results meet a goal: for each name of the rule, the result is one of the values, or a list that has one of them.
-- Text matches whatever its case and surrounding blanks; numbers and booleans match as they are written.
CREATE OR REPLACE FUNCTION meets_goal(p_results jsonb, p_rule jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT coalesce(jsonb_typeof(p_results) = 'object' AND p_rule IS NOT NULL AND NOT EXISTS (
    SELECT FROM jsonb_each(p_rule) AS r (name, wanted)
    WHERE NOT EXISTS (
        SELECT FROM jsonb_array_elements_text(
            CASE WHEN jsonb_typeof(p_results -> r.name) = 'array' THEN p_results -> r.name
                 ELSE jsonb_build_array(p_results -> r.name) END) AS s (said)
        CROSS JOIN jsonb_array_elements_text(r.wanted) AS w (value)
        WHERE lower(btrim(s.said, E' \t\r\n')) = lower(btrim(w.value, E' \t\r\n')))), false)
$$;
