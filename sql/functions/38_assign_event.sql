-- Places an event that fits no recipient, or several, where a person says: at a recipient, or with p_kind among the calls
-- outside batches. One commit, under the ingest lock, with its line in the audit log. The assignment of an event at a recipient
-- is stored, and find_places() follows it; other events of the same call go there too. p_accept_phone: also where the event
-- names another phone than the recipient's. Returns assigned, unchanged (it is there already), or why it was not placed.
CREATE OR REPLACE FUNCTION assign_event(
    p_arrival_id bigint, p_batch_id bigint, p_recipient_no integer, p_kind text, p_accept_phone boolean, p_actor text,
    p_key_id bigint, p_request_id text
) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_event     unattributed;
    v_batch     batches;
    v_recipient recipients;
BEGIN
    PERFORM lock_ingest();
    SELECT * INTO v_event FROM unattributed AS u WHERE u.arrival_id = p_arrival_id;
    IF NOT FOUND THEN
        RETURN CASE
            WHEN EXISTS (SELECT FROM other_events AS o WHERE o.arrival_id = p_arrival_id AND o.kind = p_kind)
                OR EXISTS (SELECT FROM facts AS f JOIN batches AS b ON b.batch_key = f.batch_key
                           WHERE f.arrival_id = p_arrival_id AND f.recipient_no = p_recipient_no AND b.batch_id = p_batch_id)
                THEN 'unchanged'
            WHEN EXISTS (SELECT FROM facts AS f WHERE f.arrival_id = p_arrival_id)
                OR EXISTS (SELECT FROM other_events AS o WHERE o.arrival_id = p_arrival_id) THEN 'placed'
            ELSE 'unknown_event'
        END;
    END IF;
    IF v_event.source IS NULL THEN
        RETURN 'not_read';
    END IF;

    IF p_kind IS NOT NULL THEN
        -- The webhook of an inbound call names the agent's own number as the one called.
        PERFORM move_other_calls(
            ARRAY[p_arrival_id], ARRAY[p_kind],
            ARRAY[CASE WHEN p_kind = 'inbound' AND v_event.source = 'webhook' THEN v_event.from_phone ELSE v_event.phone END],
            NULL, true);
    ELSE
        SELECT * INTO v_batch FROM batches AS b
        WHERE b.batch_id = p_batch_id AND b.upload_state IN ('uploading', 'uploaded', 'unknown');
        IF NOT FOUND THEN
            RETURN 'unknown_batch';
        END IF;
        SELECT * INTO v_recipient FROM recipients AS r
        WHERE r.batch_key = v_batch.batch_key AND r.recipient_no = p_recipient_no AND r.withdrawn_at IS NULL;
        IF NOT FOUND THEN
            RETURN 'unknown_recipient';
        ELSIF v_event.agent_id IS NULL OR v_event.phone IS NULL THEN
            RETURN 'no_person';
        ELSIF v_event.agent_id <> v_batch.agent_id THEN
            RETURN 'other_agent';
        ELSIF v_recipient.phone IS NULL THEN
            RETURN 'forgotten';
        ELSIF v_recipient.phone <> v_event.phone AND NOT p_accept_phone THEN
            RETURN 'other_phone';
        END IF;
        INSERT INTO assignments AS a (arrival_id, batch_key, recipient_no, assigned_at, actor)
        VALUES (p_arrival_id, v_batch.batch_key, p_recipient_no, clock_timestamp(), p_actor)
        ON CONFLICT (arrival_id) DO UPDATE
        SET batch_key = excluded.batch_key, recipient_no = excluded.recipient_no, assigned_at = excluded.assigned_at,
            actor = excluded.actor;
        PERFORM place_events(ARRAY[v_event.agent_id], ARRAY[v_event.phone], ARRAY[NULL::timestamptz]);
        -- Once it is there, the other events of its call, and those of later calls, may belong elsewhere.
        PERFORM place_events(ARRAY[v_event.agent_id], ARRAY[v_event.phone], ARRAY[NULL::timestamptz]);
    END IF;
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    VALUES (p_actor, p_key_id, p_request_id, 'event_assigned', 'arrival ' || p_arrival_id, 'assigned',
            jsonb_strip_nulls(jsonb_build_object(
                'arrival_id', p_arrival_id, 'batch_id', p_batch_id, 'recipient', p_recipient_no, 'kind', p_kind,
                'accept_phone', CASE WHEN v_recipient.phone <> v_event.phone THEN true END)));
    RETURN 'assigned';
END
$$;
