-- The columns of a function's rows, in order, with their types: the function alone defines an export's columns.
CREATE OR REPLACE FUNCTION export_columns(p_rows text) RETURNS TABLE (name text, type text, place integer)
LANGUAGE sql STABLE ROWS 30
AS $$
SELECT p.proargnames[i], format_type(p.proallargtypes[i], NULL), i
FROM pg_proc AS p
CROSS JOIN LATERAL generate_subscripts(p.proargmodes, 1) AS i
WHERE p.oid = p_rows::regproc AND p.proargmodes[i] = 't'
ORDER BY i
$$;
