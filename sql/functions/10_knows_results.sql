-- Whether results are known. An answer without them, or with empty ones, may come before the agent's results are there:
-- results say something if they have, at any depth, a number, a boolean, or text that is not blank. The same as
-- says_something() in service/formant/wanted.py, which has the same blanks. Most have text, so that is looked for first, alone.
CREATE OR REPLACE FUNCTION knows_results(results jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT results <> '{}'
   AND (jsonb_path_exists(results, '$.** ? (@ like_regex "[^ \t\n\r\f\u000b\u001c-\u001f\u0085\u00a0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]")')
        OR jsonb_path_exists(results, '$.** ? (@.type() == "number" || @.type() == "boolean")'))
$$;
