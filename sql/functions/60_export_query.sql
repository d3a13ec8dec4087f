-- The text of the query whose result is an export's file: p_rows names a function that returns rows (recipient_rows,
-- attempt_rows, batch_rows), p_arguments are its arguments. Run by COPY, which takes no parameters and writes a cell for
-- each column, so the text must contain the columns of a batch's file; all of them are quoted here.
-- count: the number of rows. json: one object per row. csv: one cell per column; parameters become one cell for each of
-- p_parameters, and results for each of p_results, or stay JSON if that is null. What these do not name is in one more
-- cell of JSON; parameters have that only with p_has_other_parameters. xlsx: the same, with the cells of results as JSON,
-- which keeps numbers apart from texts. p_escape: cells that a spreadsheet would run are made harmless.
DROP FUNCTION IF EXISTS export_query(text, text[], text, text[], boolean);
CREATE OR REPLACE FUNCTION export_query(
    p_rows text, p_arguments text[], p_format text, p_parameters text[], p_escape boolean,
    p_has_other_parameters boolean DEFAULT false, p_results text[] DEFAULT NULL
)
RETURNS text
LANGUAGE sql STABLE
AS $$
WITH members AS (
    SELECT v.name AS object, k.name, k.place, v.operator, v.is_text
    FROM (VALUES ('parameters', p_parameters, '->>', true),
                 ('results', p_results, CASE p_format WHEN 'xlsx' THEN '->' ELSE '->>' END, p_format <> 'xlsx')
         ) AS v (name, names, operator, is_text)
    CROSS JOIN LATERAL unnest(v.names) WITH ORDINALITY AS k (name, place)
), cells AS (
    SELECT c.place, m.place AS member_place, format('e.%I%s%L', c.name, m.operator, m.name) AS cell, m.is_text
    FROM export_columns(p_rows) AS c
    JOIN members AS m ON m.object = c.name
    UNION ALL
    SELECT c.place, NULL,
           CASE
               WHEN o.names IS NOT NULL THEN format(
                   'CASE WHEN jsonb_typeof(e.%1$I) = ''object'' THEN nullif(e.%1$I - %2$L::text[], ''{}'') ELSE e.%1$I END::text',
                   c.name, o.names)
               WHEN c.type = 'timestamp with time zone' THEN format('btrim(to_json(e.%I)::text, ''"'')', c.name)
               WHEN c.type IN ('jsonb', 'boolean') THEN format('e.%I::text', c.name)
               ELSE format('e.%I', c.name)
           END, c.type = 'text'
    FROM export_columns(p_rows) AS c
    CROSS JOIN LATERAL (
        SELECT CASE c.name WHEN 'parameters' THEN p_parameters WHEN 'results' THEN p_results END AS names
    ) AS o
    WHERE o.names IS NULL OR c.name = 'results' OR p_has_other_parameters
)
SELECT format(
    'SELECT %s FROM %I(%s) AS e',
    CASE p_format
        WHEN 'count' THEN 'count(*)'
        WHEN 'json' THEN 'row_to_json(e)'
        ELSE (SELECT string_agg(CASE WHEN is_text AND p_escape THEN format('export_cell(%s)', cell) ELSE cell END,
                                ', ' ORDER BY place, member_place NULLS LAST)
              FROM cells)
    END,
    p_rows,
    (SELECT string_agg(quote_nullable(a.value), ', ' ORDER BY a.place)
     FROM unnest(p_arguments) WITH ORDINALITY AS a (value, place)))
$$;
