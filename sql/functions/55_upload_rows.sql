-- Recipients of a batch by number, after a given one up to another, as a file that can be uploaded again: the phone and the
-- parameters. Without people who are erased or forgotten, whose phone is gone, and those who were withdrawn. Written like
-- recipient_rows().
DROP FUNCTION IF EXISTS upload_rows(bigint, integer, integer, text);
DROP FUNCTION IF EXISTS upload_rows(bigint, integer, integer, jsonb);
CREATE OR REPLACE FUNCTION upload_rows(p_batch_key bigint, p_after integer, p_until integer, p_filters jsonb)
RETURNS TABLE (customer_phone text, parameters jsonb)
LANGUAGE sql STABLE ROWS 10000
AS $$
SELECT r.phone, r.parameters
FROM recipients AS r
LEFT JOIN outcomes AS o
    ON o.batch_key = p_batch_key AND o.recipient_no > p_after AND o.recipient_no <= p_until
   AND o.recipient_no = r.recipient_no
LEFT JOIN facts AS f
    ON f.batch_key = p_batch_key AND f.recipient_no > p_after AND f.recipient_no <= p_until
   AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
CROSS JOIN meets_filters(
    p_filters, recipient_state(o.state, r.withdrawn_at), f.status, f.source, coalesce(o.attempts, 0), o.changed_at,
    f.failure_reason, r.phone, r.parameters, f.results)
WHERE r.batch_key = p_batch_key AND r.recipient_no > p_after AND r.recipient_no <= p_until
  AND r.withdrawn_at IS NULL AND r.phone ~ '^\+[1-9][0-9]{6,14}$'
ORDER BY r.recipient_no
$$;
