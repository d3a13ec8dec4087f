-- How far a call got, from least to most: part of the fixed order between two facts about one attempt.
CREATE OR REPLACE FUNCTION status_rank(status text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT array_position(
    '{unreachable,no_answer,busy,failed,telephony_failed,socket_failure,completed}'::text[], status)
$$;
