-- Whether results meet a goal: for each name of the rule, the result is one of the values, or a list that has one of them,
-- as fold_value() compares them. Names bound when it is made, as those of shown_goal().
CREATE OR REPLACE FUNCTION meets_goal(p_results jsonb, p_rule jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT coalesce(jsonb_typeof(p_results) = 'object' AND p_rule IS NOT NULL AND NOT EXISTS (
    SELECT FROM jsonb_each(p_rule) AS r (name, wanted)
    WHERE NOT EXISTS (
        SELECT FROM jsonb_array_elements(
            CASE WHEN jsonb_typeof(p_results -> r.name) = 'array' THEN p_results -> r.name
                 ELSE jsonb_build_array(p_results -> r.name) END) AS s (said)
        CROSS JOIN jsonb_array_elements(r.wanted) AS w (value)
        WHERE fold_value(s.said) = fold_value(w.value))), false);
END;

-- Whether a recipient meets the goal, by its latest attempt: what readers see beside its outcome, and true for exactly those
-- that the goal's counter counts. Null without a goal, before the first attempt, and while the results of a completed call
-- are not known. A body of names bound when it is made, because readers of bi have another search_path.
CREATE OR REPLACE FUNCTION shown_goal(p_rule jsonb, p_status text, p_results jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN p_rule IS NULL OR p_status IS NULL THEN NULL
    WHEN p_status = 'completed' AND NOT coalesce(knows_results(p_results), false) THEN NULL
    ELSE meets_goal(p_results, p_rule)
END;
