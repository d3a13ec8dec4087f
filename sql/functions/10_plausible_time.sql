-- A time from the provider if it can be true, else null. Stored times are shown through this, because older versions
-- stored them as they came, infinities included. service/formant/plausible.py has the same limits; a test compares the two.
-- Bound at creation (BEGIN ATOMIC): views of bi use it, and their readers' search_path has no effect.
CREATE OR REPLACE FUNCTION plausible_time(p_time timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE WHEN p_time >= '2000-01-01 00:00:00+00' AND p_time < '2100-01-01 00:00:00+00' THEN p_time END;
END;

-- Whether all times and numbers of a fact can be true.
CREATE OR REPLACE FUNCTION is_plausible_fact(
    p_next_retry_at timestamptz, p_occurred_at timestamptz, p_started_at timestamptz, p_ended_at timestamptz,
    p_duration_seconds integer, p_attempt_number integer, p_max_attempts integer
)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT (p_next_retry_at, p_occurred_at, p_started_at, p_ended_at) IS NOT DISTINCT FROM
       (plausible_time(p_next_retry_at), plausible_time(p_occurred_at), plausible_time(p_started_at), plausible_time(p_ended_at))
   AND coalesce(p_duration_seconds BETWEEN 0 AND 86400, true)
   AND coalesce(p_attempt_number BETWEEN 1 AND 1000, true)
   AND coalesce(p_max_attempts BETWEEN 1 AND 1000, true);
END;
