-- A phone of which only the country (its first three characters) and the last three digits are left; all of a short one goes.
-- Its body is bound when it is made (BEGIN ATOMIC), as those of its kin: readers' search_path decides nothing.
CREATE OR REPLACE FUNCTION bi_mask_phone(phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    WHEN length(phone) >= 9 THEN left(phone, 3) || repeat('*', length(phone) - 6) || right(phone, 3)
    ELSE repeat('*', length(phone))
END;
END;
