-- A phone reduced to its country (the first three characters) and the last three digits; a short one is masked completely.
-- Like the other masks, it is bound at creation (BEGIN ATOMIC): readers' search_path has no effect.
CREATE OR REPLACE FUNCTION bi_mask_phone(phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    WHEN length(phone) >= 9 THEN left(phone, 3) || repeat('*', length(phone) - 6) || right(phone, 3)
    ELSE repeat('*', length(phone))
END;
END;
