-- For the version before, which goes on beside this one: see adopt_batch(). It does not say how the batch is known: what
-- was looked for may be a guess.
CREATE OR REPLACE FUNCTION record_uploaded(
    p_batch_key bigint, p_batch_id bigint, p_status text, p_total_recipients integer, p_created_at timestamptz,
    p_rows integer
)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    RETURN (SELECT a.batch_key
            FROM batches AS b
            CROSS JOIN LATERAL adopt_batch(p_batch_key, p_batch_id, p_status, p_total_recipients, p_created_at, p_rows,
                                           CASE WHEN b.lookups > 0 THEN 'lookup' END, NULL) AS a
            WHERE b.batch_key = p_batch_key);
END
$$;
