-- A name in the form used to compare: spaces trimmed and collapsed, case folded, since the provider may change these.
CREATE OR REPLACE FUNCTION fold_name(p_name text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN lower(btrim(regexp_replace(p_name, '\s+', ' ', 'g')));

-- How an upload's batch is known, also for uploads of a version that did not record it: without a lookup, it was the
-- provider's answer. Null: by the provider's answer or by a guess.
CREATE OR REPLACE FUNCTION read_known_by(p_known_by text, p_lookups integer) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN coalesce(p_known_by, CASE WHEN p_lookups = 0 THEN 'answer' END);

-- The rank of a source: the provider's own answer is proof, and manual resolution beats a lookup.
CREATE OR REPLACE FUNCTION rank_known_by(p_known_by text, p_lookups integer) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE read_known_by(p_known_by, p_lookups) WHEN 'lookup' THEN 1 WHEN 'person' THEN 2 WHEN 'answer' THEN 4 ELSE 3 END;
