-- Creates a view of schema bi from the one of bi_full, with the same columns in the same order. THE definition of which
-- columns of a batch are free text. Views of recipients mask more, and are written out.
CREATE OR REPLACE FUNCTION bi_mask_view(p_view text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_columns text;
BEGIN
    SELECT string_agg(
        CASE
            WHEN a.attname IN ('batch_name', 'provider_status') THEN format('bi_mask_text(v.%1$I) AS %1$I', a.attname)
            WHEN a.attname = 'parameter_columns' THEN format('bi_mask_names(v.%1$I) AS %1$I', a.attname)
            ELSE format('v.%I', a.attname)
        END, ', ' ORDER BY a.attnum)
    INTO v_columns
    FROM pg_attribute AS a
    WHERE a.attrelid = format('bi_full.%I', p_view)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE format('CREATE OR REPLACE VIEW bi.%1$I AS SELECT %2$s FROM bi_full.%1$I AS v', p_view, v_columns);
END
$$;
REVOKE EXECUTE ON FUNCTION bi_mask_view FROM PUBLIC;
