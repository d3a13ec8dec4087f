-- What a fact is verified against: its event's digest, its raw body while it is kept, its batch's token, and whether the
-- evidence about an event without a reference is missing. Inlined into the query that calls it.
CREATE OR REPLACE FUNCTION read_fact_body(p_fact facts)
RETURNS TABLE (
    digest bytea, target text, received_at timestamptz, body bytea, signature bytea, ref_token text, lacks_evidence boolean
)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT k.digest, k.target, k.received_at, x.body, x.signature, b.ref_token,
       ((p_fact).method <> 'reference' OR (p_fact).source = 'healed') AND r.phone IS NOT NULL
       AND (p_fact).conversation_id NOT LIKE 'erased-%'  -- see erase_placed_calls()
       AND NOT EXISTS (SELECT FROM unreferenced_events AS u WHERE u.arrival_id = (p_fact).arrival_id)
FROM batches AS b
LEFT JOIN recipients AS r ON r.batch_key = b.batch_key AND r.recipient_no = (p_fact).recipient_no
LEFT JOIN LATERAL find_arrival((p_fact).event_id, (p_fact).occurred_at, (p_fact).arrival_id) AS k ON true
LEFT JOIN LATERAL (
    SELECT y.body, y.signature FROM event_bodies AS y
    WHERE y.arrival_id = (p_fact).arrival_id AND y.recorded_at = k.recorded_at
) AS x ON true
WHERE b.batch_key = (p_fact).batch_key
$$;
