-- Deletes the raw bodies of arrivals, by the index of each month, and no longer asks for their details. Returns how many
-- bodies it deleted.
CREATE OR REPLACE FUNCTION delete_bodies(p_arrival_ids bigint[]) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_deleted integer;
BEGIN
    DELETE FROM outstanding_details AS d WHERE d.arrival_id = ANY (p_arrival_ids);
    WITH deleted AS (
        DELETE FROM event_bodies AS b
        USING unnest(p_arrival_ids) AS t (arrival_id)
        WHERE b.arrival_id = t.arrival_id
        RETURNING 1
    )
    SELECT count(*) INTO v_deleted FROM deleted;
    RETURN v_deleted;
END
$$;
