-- Names as a provider may give them back: blanks trimmed and collapsed, whatever their case.
CREATE OR REPLACE FUNCTION fold_name(p_name text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN lower(btrim(regexp_replace(p_name, '\s+', ' ', 'g')));

-- How an upload's batch is known, also where a version that did not keep it recorded it: what was never looked for was
-- answered. Null: by the provider's answer or by a guess.
CREATE OR REPLACE FUNCTION read_known_by(p_known_by text, p_lookups integer) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN coalesce(p_known_by, CASE WHEN p_lookups = 0 THEN 'answer' END);

-- What gives way to what: the provider's own answer is proof, a person's word beats what a lookup found.
CREATE OR REPLACE FUNCTION rank_known_by(p_known_by text, p_lookups integer) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE read_known_by(p_known_by, p_lookups) WHEN 'lookup' THEN 1 WHEN 'person' THEN 2 WHEN 'answer' THEN 4 ELSE 3 END;
