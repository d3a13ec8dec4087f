-- Stores the evidence, as far as it is known, on facts that were placed before evidence was stored: from then on they are
-- placed by it. p_parameters are those of each event's body, null without any. All null: the bodies were not read, and the
-- parameters of a window's recipient are used, because they come from its webhooks.
CREATE OR REPLACE FUNCTION add_evidence(p_arrival_ids bigint[], p_parameters text[]) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_added bigint;
BEGIN
    PERFORM lock_ingest();
    INSERT INTO unreferenced_events (
        arrival_id, agent_id, phone, conversation_id, attempt_number, is_final, started_at, called_at, until, scanned_at,
        parameters)
    SELECT f.arrival_id, b.agent_id, r.phone, f.conversation_id, f.attempt_number,
           f.is_final AND ends_recipient(f.source, f.status, f.attempt_number), f.started_at,
           coalesce(f.started_at, f.ended_at, f.occurred_at),
           greatest(f.started_at, f.ended_at, f.occurred_at),
           coalesce(f.started_at, f.ended_at, f.occurred_at, f.recorded_at),
           CASE WHEN p_parameters IS NOT NULL AND jsonb_typeof(e.parameters::jsonb) = 'object'
                THEN nullif(e.parameters::jsonb, '{}')
                WHEN p_parameters IS NULL AND f.method = 'window' AND f.source = 'webhook'
                THEN nullif(r.parameters, '{}') END
    FROM unnest(p_arrival_ids, p_parameters) AS e (arrival_id, parameters)
    CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = e.arrival_id OFFSET 0) AS f
    JOIN batches AS b ON b.batch_key = f.batch_key
    JOIN recipients AS r ON r.batch_key = f.batch_key AND r.recipient_no = f.recipient_no AND r.phone IS NOT NULL
    ON CONFLICT (arrival_id) DO NOTHING;
    GET DIAGNOSTICS v_added = ROW_COUNT;
    RETURN v_added;
END
$$;
