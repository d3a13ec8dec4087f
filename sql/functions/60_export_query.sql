-- The text of the query whose result is an export's file: p_rows names a function that returns rows (recipient_rows,
-- attempt_rows, batch_rows), p_arguments are its arguments. Run by COPY, which takes no parameters and writes a cell for
-- each column, so the text must contain the columns of a batch's file; all of them are quoted here.
-- json: one object per row. csv: one cell per column; parameters become one cell for each of p_parameters, or stay JSON if
-- that is null. p_escape: cells that a spreadsheet would run are made harmless.
CREATE OR REPLACE FUNCTION export_query(
    p_rows text, p_arguments text[], p_format text, p_parameters text[], p_escape boolean
)
RETURNS text
LANGUAGE sql STABLE
AS $$
WITH cells AS (
    SELECT c.place, k.place AS parameter_place,
           CASE
               WHEN k.name IS NOT NULL THEN format('e.parameters->>%L', k.name)
               WHEN c.type = 'timestamp with time zone' THEN format('btrim(to_json(e.%I)::text, ''"'')', c.name)
               WHEN c.type IN ('jsonb', 'boolean') THEN format('e.%I::text', c.name)
               ELSE format('e.%I', c.name)
           END AS cell,
           c.type = 'text' OR k.name IS NOT NULL AS is_text
    FROM export_columns(p_rows) AS c
    LEFT JOIN LATERAL unnest(p_parameters) WITH ORDINALITY AS k (name, place) ON c.name = 'parameters'
    WHERE c.name <> 'parameters' OR p_parameters IS NULL OR k.name IS NOT NULL
)
SELECT format(
    'SELECT %s FROM %I(%s) AS e',
    CASE
        WHEN p_format = 'json' THEN 'row_to_json(e)'
        ELSE (SELECT string_agg(CASE WHEN is_text AND p_escape THEN format('export_cell(%s)', cell) ELSE cell END,
                                ', ' ORDER BY place, parameter_place)
              FROM cells)
    END,
    p_rows,
    (SELECT string_agg(quote_nullable(a.value), ', ' ORDER BY a.place)
     FROM unnest(p_arguments) WITH ORDINALITY AS a (value, place)))
$$;
