-- Whether a body that nobody understands names a phone that is erased, and not known again since by a new upload.
-- Of its numbers the first thousand are looked at.
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
