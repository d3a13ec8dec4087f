-- Whether results are known: an answer without them, or with an empty object, may come before the agent's results are there.
CREATE OR REPLACE FUNCTION knows_results(results jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT results NOT IN ('null', '{}')
$$;
