-- A text without what looks like a phone, an account or an address. THE definition of what does: seven or more digits of any
-- script, with up to three spaces or signs between any two of them; and anything joined by an @. Every text in the masked
-- views goes through this. Dates, times and amounts with a point stay: meanwhile a private-use character, which is neither
-- digit nor sign and which no text uses, separates their digits.
CREATE OR REPLACE FUNCTION bi_mask_text(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    -- Most texts have too few digits, and most are ASCII, for which this check is quick.
    WHEN octet_length(content) = length(content) AND content !~ '([0-9][^0-9]*){7}|@' THEN content
    WHEN content !~ ('([' || bi_digits() || '][^' || bi_digits() || ']*){7}|@') THEN content
    ELSE replace(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    regexp_replace(
                        regexp_replace(
                            replace(content, E'\uE000', ''),
                            '(?<![' || bi_digits() || '])((?:19|20)[0-9]{2}-)((?:0[1-9]|1[0-2])-)(0[1-9]|[12][0-9]|3[01])(?![' || bi_digits() || '])',
                            E'\uE000\\1\uE000\\2\uE000\\3\uE000', 'g'
                        ),
                        '(?<![' || bi_digits() || '])((?:0?[1-9]|[12][0-9]|3[01])/)((?:0?[1-9]|1[0-2])/)((?:19|20)[0-9]{2})(?![' || bi_digits() || '])',
                        E'\uE000\\1\uE000\\2\uE000\\3\uE000', 'g'
                    ),
                    '(?<![' || bi_digits() || '])((?:[01][0-9]|2[0-3]):[0-5][0-9]:)([0-5][0-9])(\.[0-9]{1,6})?(?![' || bi_digits() || '])',
                    E'\uE000\\1\uE000\\2\uE000\\3\uE000', 'g'
                ),
                '(?<![' || bi_digits() || '][' || bi_gaps() || ']{0,3})((?:0|[1-9][0-9]{0,5})\.)([0-9]{1,2})(?![' || bi_gaps() || ']{0,3}[' || bi_digits() || '])',
                E'\uE000\\1\uE000\\2\uE000', 'g'
            ),
            '[+]?[' || bi_digits() || '](?:[' || bi_gaps() || ']{0,3}[' || bi_digits() || ']){6,}|[^\s@]+@[^\s@]+', '(masked)', 'g'
        ),
        E'\uE000', ''
    )
END;
END;

-- Masks each name that looks like a phone.
CREATE OR REPLACE FUNCTION bi_mask_names(names text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT ARRAY(SELECT bi_mask_text(n.name) FROM unnest(names) WITH ORDINALITY AS n (name, nth) ORDER BY n.nth);
END;

-- The provider's id of a call; masked if it contains the phone that was called. Other digits in it are not a phone.
CREATE OR REPLACE FUNCTION bi_mask_id(id text, phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE WHEN length(phone) >= 8 AND position(right(phone, 7) IN id) > 0 THEN '(masked)' ELSE id END;
END;
