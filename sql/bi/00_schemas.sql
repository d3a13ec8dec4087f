-- The schemas that BI tools read: bi, where people cannot be recognised, and bi_full, the same views with their data.
-- All files of this folder are applied again when the text of one changes or the schemas are gone. So a migration that
-- changes a column which the views read begins with: DROP SCHEMA bi, bi_full CASCADE.
DO $$
BEGIN
    IF to_regnamespace('bi') IS NULL THEN
        CREATE SCHEMA bi;
    END IF;
    IF to_regnamespace('bi_full') IS NULL THEN
        CREATE SCHEMA bi_full;
    END IF;
END
$$;
COMMENT ON SCHEMA bi IS 'Outcomes for BI tools, without phones, call parameters or anything that looks like one. Columns are only ever added, at the end.';
COMMENT ON SCHEMA bi_full IS 'The views of bi with people''s data: phones, call parameters and results as they are.';
