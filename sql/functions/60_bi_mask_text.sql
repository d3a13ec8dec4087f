-- A text without what looks like a phone, an account or an address. THE place that decides what does: seven digits or more of
-- any script, with up to three blanks or signs between any two of them; and whatever is joined by an @. Every text that leaves
-- through the masked views goes through here. Dates, times and amounts with a point stay: a character of a private area, which
-- is neither digit nor sign and which no text has a use for, parts their digits meanwhile.
CREATE OR REPLACE FUNCTION bi_mask_text(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE
    -- Most texts have too few digits, and most are ASCII, for which that is quickly seen.
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

-- Names, each without what looks like a phone.
CREATE OR REPLACE FUNCTION bi_mask_names(names text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT ARRAY(SELECT bi_mask_text(n.name) FROM unnest(names) WITH ORDINALITY AS n (name, nth) ORDER BY n.nth);
END;

-- The provider's id of a call; masked where it holds the phone that was called. Other digits in it are no phone.
CREATE OR REPLACE FUNCTION bi_mask_id(id text, phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT CASE WHEN length(phone) >= 8 AND position(right(phone, 7) IN id) > 0 THEN '(masked)' ELSE id END;
END;
