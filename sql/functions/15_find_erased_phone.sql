-- The erased phone that one of a body's numbers means; numbers are digits, with country code or national. Null: none, or
-- the phone has become known again through a new upload.
CREATE OR REPLACE FUNCTION find_erased_phone(p_numbers text[]) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF p_numbers IS NULL OR NOT EXISTS (SELECT FROM erased_phones) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT min(k.phone)
        FROM (
            SELECT '+' || coalesce(c.calling_code, '') || d.digits AS phone
            FROM (SELECT n.number AS digits FROM unnest(p_numbers) AS n (number)
                  UNION SELECT ltrim(n.number, '0') FROM unnest(p_numbers) AS n (number)) AS d
            CROSS JOIN (SELECT NULL AS calling_code UNION ALL SELECT calling_code FROM erased_calling_codes) AS c
        ) AS k
        JOIN erased_phones AS e ON e.phone_hash = hash_person('phone', k.phone)
        WHERE NOT EXISTS (SELECT FROM recipients AS r WHERE r.phone = k.phone));
END
$$;

-- Whether a call was made from the phone of an erased person.
CREATE OR REPLACE FUNCTION is_erased_caller(p_from_phone text) RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT p_from_phone IS NOT NULL AND find_erased_phone(ARRAY[ltrim(p_from_phone, '+')]) IS NOT NULL
$$;
