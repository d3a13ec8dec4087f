-- The erased recipients that a call may still belong to, by the hash of its phone: of its agent, in a batch that was there
-- when the call began, and
--   - the call is from before the erasure, or
--   - the recipient was not final then: no final fact of a call that began more than two seconds before is known.
-- Once final, a later call of that person is a new matter. Written to be inlined.
CREATE OR REPLACE FUNCTION find_erased(p_agent_id bigint, p_phone text, p_called_at timestamptz)
RETURNS TABLE (batch_key bigint, recipient_no integer, is_registered boolean)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT e.batch_key, e.recipient_no, b.is_registered
FROM erased_recipients AS e
JOIN batches AS b ON b.batch_key = e.batch_key
JOIN recipients AS r ON r.batch_key = e.batch_key AND r.recipient_no = e.recipient_no AND r.withdrawn_at IS NULL
WHERE e.phone_hash = hash_person('phone', p_phone) AND b.agent_id = p_agent_id
  AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
  AND (p_called_at IS NULL
       OR least(b.prepared_at, b.created_at) - interval '5 minutes' <= p_called_at
          AND (b.is_registered OR coalesce(b.closed_at, 'infinity') >= p_called_at - interval '5 minutes')
          AND (p_called_at <= e.erased_at OR NOT EXISTS (
                  SELECT
                  FROM outcomes AS o
                  JOIN facts AS f ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no
                                 AND f.arrival_id = o.arrival_id
                  WHERE o.batch_key = e.batch_key AND o.recipient_no = e.recipient_no AND f.is_final
                    AND coalesce(f.started_at, f.ended_at, f.occurred_at, '-infinity') + interval '2 s' < p_called_at)))
$$;
