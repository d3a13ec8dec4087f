-- For replicas of the version before find_erased_phone(): whether a body names a phone that is erased in plain E.164.
CREATE OR REPLACE FUNCTION names_erased(p_body bytea) RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT EXISTS (SELECT FROM erased_phones) AND EXISTS (
    SELECT
    FROM (SELECT DISTINCT m[1] AS digits
          FROM (SELECT m FROM regexp_matches(encode(p_body, 'escape'), '[0-9]{7,15}', 'g') AS m LIMIT 1000) AS t) AS n
    JOIN erased_phones AS e ON e.phone_hash = hash_person('phone', '+' || n.digits)
    WHERE NOT EXISTS (SELECT FROM recipients AS r WHERE r.phone = '+' || n.digits))
$$;
