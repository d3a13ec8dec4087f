-- For replicas of the previous version, which still run: see adopt_batch().
CREATE OR REPLACE FUNCTION record_uploaded(
    p_batch_key bigint, p_batch_id bigint, p_status text, p_total_recipients integer, p_created_at timestamptz,
    p_rows integer
)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    RETURN (SELECT a.batch_key FROM adopt_batch(p_batch_key, p_batch_id, p_status, p_total_recipients, p_created_at, p_rows, NULL, NULL) AS a);
END
$$;
