-- A text without what looks like a phone, an account or an address: eight digits or more in a row, nine or more with
-- single spaces, dots, dashes or brackets between them, and whatever is joined by an @.
CREATE OR REPLACE FUNCTION bi_mask_text(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT regexp_replace(content, '\+?[0-9]{8,}|\+?[0-9]([ ().-]{0,2}[0-9]){8,}|[^\s@]+@[^\s@]+', '(masked)', 'g');
END;
