-- One row if a row of a list or an export meets the filters, else none: THE definition of each filter. p_filters has the
-- fields of service/outcomes/filters.py; one that is absent lets every row pass. It returns a set because the planner
-- inlines such a function with its subqueries: calling one for each row costs fifteen times as much. Of constant filters it
-- leaves only what is asked, and nothing of null.
DROP FUNCTION IF EXISTS meets_filters(
    jsonb, text, text, text, integer, timestamptz, text, text, jsonb, jsonb);
DROP FUNCTION IF EXISTS has_values(jsonb, jsonb);
DROP FUNCTION IF EXISTS has_times(jsonb, jsonb, text);
CREATE OR REPLACE FUNCTION meets_filters(
    p_filters jsonb, p_state text, p_status text, p_source text, p_attempts integer, p_changed_at timestamptz,
    p_failure_reason text, p_phone text, p_parameters jsonb, p_results jsonb
)
RETURNS SETOF boolean
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT true
WHERE (p_filters -> 'states' IS NULL OR p_filters -> 'states' ? p_state)
  AND (p_filters -> 'statuses' IS NULL OR p_filters -> 'statuses' ? p_status)
  AND (p_filters -> 'sources' IS NULL OR p_filters -> 'sources' ? p_source)
  AND (p_filters -> 'min_attempts' IS NULL OR p_attempts >= (p_filters ->> 'min_attempts')::integer)
  AND (p_filters -> 'max_attempts' IS NULL OR p_attempts <= (p_filters ->> 'max_attempts')::integer)
  AND (p_filters -> 'failure_reasons' IS NULL OR p_filters -> 'failure_reasons' ? p_failure_reason)
  AND (p_filters -> 'phone' IS NULL OR p_phone = p_filters ->> 'phone')
  AND (p_filters -> 'changed_since' IS NULL OR p_changed_at >= (p_filters ->> 'changed_since')::timestamptz)
  -- Each name has one of the wanted values as text.
  AND (p_filters -> 'parameters' IS NULL
       OR NOT EXISTS (SELECT FROM jsonb_each(p_filters -> 'parameters') AS w
                      WHERE (w.value ? (p_parameters ->> w.key)) IS NOT TRUE))
  AND (p_filters -> 'results' IS NULL
       OR NOT EXISTS (SELECT FROM jsonb_each(p_filters -> 'results') AS w
                      WHERE (w.value ? (p_results ->> w.key)) IS NOT TRUE))
  -- Each name holds a day or a time in the wanted range: not before the first, and before the second.
  AND (p_filters -> 'result_times' IS NULL
       OR NOT EXISTS (
              SELECT FROM jsonb_each(p_filters -> 'result_times') AS w
              CROSS JOIN LATERAL (SELECT result_time(p_results ->> w.key, p_filters ->> 'time_zone') AS instant) AS t
              WHERE (t.instant >= coalesce((w.value ->> 0)::timestamptz, '-infinity')
                     AND t.instant < coalesce((w.value ->> 1)::timestamptz, 'infinity')) IS NOT TRUE))
$$;
