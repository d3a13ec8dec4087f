-- Whether an object has, for each name, one of the wanted values as text.
CREATE OR REPLACE FUNCTION has_values(p_object jsonb, p_wanted jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT coalesce(bool_and(coalesce(w.value ? (p_object ->> w.key), false)), true) FROM jsonb_each(p_wanted) AS w
$$;

-- Whether an object has, for each name, a day or a time in the wanted range: not before the first, and before the second.
CREATE OR REPLACE FUNCTION has_times(p_object jsonb, p_wanted jsonb, p_time_zone text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT coalesce(bool_and(coalesce(
           t.instant >= coalesce((w.value ->> 0)::timestamptz, '-infinity')
           AND t.instant < coalesce((w.value ->> 1)::timestamptz, 'infinity'), false)), true)
FROM jsonb_each(p_wanted) AS w
CROSS JOIN LATERAL (SELECT result_time(p_object ->> w.key, p_time_zone) AS instant) AS t
$$;

-- Whether a row meets the filters of a list or an export: THE definition of each filter. p_filters has the fields of
-- service/outcomes/filters.py; one that is absent lets every row pass. Written to be inlined: of constant filters, the
-- planner leaves only what is asked, and nothing of null.
CREATE OR REPLACE FUNCTION meets_filters(
    p_filters jsonb, p_state text, p_status text, p_source text, p_attempts integer, p_changed_at timestamptz,
    p_failure_reason text, p_phone text, p_parameters jsonb, p_results jsonb
)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT (p_filters -> 'states' IS NULL OR p_filters -> 'states' ? p_state)
   AND (p_filters -> 'statuses' IS NULL OR p_filters -> 'statuses' ? p_status)
   AND (p_filters -> 'sources' IS NULL OR p_filters -> 'sources' ? p_source)
   AND (p_filters -> 'min_attempts' IS NULL OR p_attempts >= (p_filters ->> 'min_attempts')::integer)
   AND (p_filters -> 'max_attempts' IS NULL OR p_attempts <= (p_filters ->> 'max_attempts')::integer)
   AND (p_filters -> 'failure_reasons' IS NULL OR p_filters -> 'failure_reasons' ? p_failure_reason)
   AND (p_filters -> 'phone' IS NULL OR p_phone = p_filters ->> 'phone')
   AND (p_filters -> 'changed_since' IS NULL OR p_changed_at >= (p_filters ->> 'changed_since')::timestamptz)
   AND (p_filters -> 'parameters' IS NULL OR has_values(p_parameters, p_filters -> 'parameters'))
   AND (p_filters -> 'results' IS NULL OR has_values(p_results, p_filters -> 'results'))
   AND (p_filters -> 'result_times' IS NULL
        OR has_times(p_results, p_filters -> 'result_times', p_filters ->> 'time_zone'))
$$;
