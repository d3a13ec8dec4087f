-- Which recipient an event belongs to that carries no reference of ours: one of its agent's batches that existed when
-- the call began holds its phone; equal call parameters decide between several. Five minutes allow for clocks that differ.
-- An erased recipient is a candidate for as long as find_erased() says.
-- One row; reason is null when the recipient is found, else no_batch or ambiguous.
CREATE OR REPLACE FUNCTION find_recipient(
    p_agent_id bigint, p_phone text, p_parameters jsonb, p_called_at timestamptz
)
RETURNS TABLE (batch_key bigint, recipient_no integer, reason text)
LANGUAGE sql STABLE ROWS 1
AS $$
WITH candidates AS (
    SELECT r.batch_key, r.recipient_no,
           r.parameters = CASE jsonb_typeof(p_parameters) WHEN 'object' THEN p_parameters - coalesce(b.ref_column, '') END
               AS is_equal
    FROM recipients AS r
    JOIN batches AS b ON b.batch_key = r.batch_key
    WHERE r.phone = p_phone AND r.withdrawn_at IS NULL AND b.agent_id = p_agent_id AND b.is_registered
      AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
      AND (p_called_at IS NULL OR least(b.prepared_at, b.created_at) - interval '5 minutes' <= p_called_at)
    UNION ALL
    SELECT e.batch_key, e.recipient_no, false
    FROM find_erased(p_agent_id, p_phone, p_called_at) AS e
    WHERE e.is_registered
), counted AS (
    SELECT count(*) AS candidates, count(*) FILTER (WHERE is_equal) AS equals FROM candidates
)
SELECT c.batch_key, c.recipient_no,
       CASE WHEN counted.candidates = 0 THEN 'no_batch' WHEN c.batch_key IS NULL THEN 'ambiguous' END
FROM counted
LEFT JOIN candidates AS c ON counted.candidates = 1 OR (counted.equals = 1 AND c.is_equal)
$$;
