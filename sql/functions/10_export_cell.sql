-- A cell of a CSV as text that no spreadsheet runs as a formula: text that begins like a formula gets a quote in front. A
-- signed number, such as a phone in E.164, cannot be a formula and stays as it is. Tab, line feed, carriage return and the
-- full-width signs also count, because spreadsheets skip the former and read the latter as plain signs.
CREATE OR REPLACE FUNCTION export_cell(p_text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE
           WHEN ascii(p_text) IN (9, 10, 13, 43, 45, 61, 64, 65291, 65293, 65309, 65312)
                AND p_text !~ '^[+-][0-9]+(\.[0-9]+)?$' THEN '''' || p_text
           ELSE p_text
       END
$$;
