-- Which recipient an event belongs to that fits none: that of the one batch of its agent that was made elsewhere, whose
-- CSV is not known, and that was open when the call began; five minutes allow for clocks that differ. The recipient is
-- made on the fly. The same phone with the same parameters is the same recipient; one known by its phone alone (a healed
-- event has no parameters) gets its parameters from the first event that has some. Called by ingest(), under its lock.
--
-- While a CSV is being registered its window still counts, or another batch would be taken for the only one; but the
-- event waits: it is tried again when the registration ends.
CREATE OR REPLACE FUNCTION find_by_window(
    p_agent_id bigint, p_phone text, p_parameters jsonb, p_called_at timestamptz,
    OUT batch_key bigint, OUT recipient_no integer, OUT reason text
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_parameters  CONSTANT jsonb := CASE jsonb_typeof(p_parameters) WHEN 'object' THEN p_parameters ELSE '{}' END;
    v_batches     bigint[];
    v_is_busy     boolean;
    v_known       integer[];
    v_equal       integer;
    v_provisional integer;
BEGIN
    reason := 'no_batch';
    IF p_phone IS NULL OR p_called_at IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(b.batch_key), bool_or(r.is_busy)
    INTO v_batches, v_is_busy
    FROM batches AS b
    LEFT JOIN LATERAL (
        SELECT registrations.step IN ('match', 'withdraw') AS is_busy
        FROM registrations WHERE registrations.batch_key = b.batch_key
        OFFSET 0
    ) AS r ON true
    WHERE b.agent_id = p_agent_id AND NOT b.is_registered
      AND coalesce(b.closed_at, 'infinity'::timestamptz) >= p_called_at - interval '5 minutes'
      AND coalesce(b.created_at, b.prepared_at) - interval '5 minutes' <= p_called_at;
    IF cardinality(v_batches) > 1 THEN
        reason := 'ambiguous';
        RETURN;
    ELSIF v_batches IS NULL OR v_is_busy THEN
        RETURN;
    END IF;

    SELECT array_agg(r.recipient_no), min(r.recipient_no) FILTER (WHERE r.parameters = v_parameters),
           min(r.recipient_no) FILTER (WHERE r.parameters = '{}')
    INTO v_known, v_equal, v_provisional
    FROM recipients AS r
    WHERE r.phone = p_phone AND r.batch_key = v_batches[1] AND r.withdrawn_at IS NULL;
    IF v_equal IS NULL AND v_parameters = '{}' AND cardinality(v_known) > 1 THEN
        reason := 'ambiguous';
        RETURN;
    END IF;

    reason := NULL;
    batch_key := v_batches[1];
    recipient_no := coalesce(v_equal, CASE WHEN v_parameters = '{}' THEN v_known[1] ELSE v_provisional END);
    IF recipient_no IS NULL THEN
        UPDATE batches AS b SET recipient_count = b.recipient_count + 1
        WHERE b.batch_key = v_batches[1]
        RETURNING b.recipient_count INTO recipient_no;
        INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
        SELECT v_batches[1], find_by_window.recipient_no, p_phone, v_parameters;
    ELSIF v_equal IS NULL AND v_provisional IS NOT NULL THEN
        PERFORM set_parameters(v_batches[1], v_provisional, v_parameters);
    END IF;
END
$$;
