-- Whether events of an agent's phone may be in a batch, or belong there: one is there, the batch has a recipient that
-- find_places() takes for a candidate, or it is a window that was open when one of the calls began.
CREATE OR REPLACE FUNCTION concerns_batch(p_batch_key bigint, p_agent_id bigint, p_phone text) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM recipients AS r WHERE r.phone = p_phone AND r.batch_key = p_batch_key)
    OR EXISTS (SELECT FROM unreferenced_events AS u JOIN facts AS f ON f.arrival_id = u.arrival_id
               WHERE u.agent_id = p_agent_id AND u.phone = p_phone AND f.batch_key = p_batch_key)
    OR EXISTS (SELECT FROM batches AS b JOIN unreferenced_events AS u ON u.called_at <@ (batch_span(b)).span
               WHERE b.batch_key = p_batch_key AND NOT b.is_registered AND u.agent_id = p_agent_id AND u.phone = p_phone)
    OR EXISTS (SELECT FROM reference_contradictions AS x
               WHERE x.phone = p_phone AND x.agent_id = p_agent_id AND x.batch_key = p_batch_key)
    OR EXISTS (SELECT FROM erased_recipients AS e
               WHERE e.phone_hash = hash_person('phone', p_phone) AND e.batch_key = p_batch_key);

-- Unreferenced events that find_places() would put elsewhere today, with both places: of the next p_keys agents and phones
-- after the given ones. Each row has the key reached so far; the last one has no event. Changes nothing. Agents whose
-- events are about to be placed again are marked is_pending. With p_batch_key: only events that are in that batch or
-- belong there; p_agent_id is then the batch's agent. Events of a call that a rule knows to be outside batches are among
-- them, placed or waiting.
DROP FUNCTION IF EXISTS check_places(bigint, text, integer);
CREATE OR REPLACE FUNCTION check_places(
    p_agent_id bigint, p_phone text, p_keys integer, p_batch_key bigint DEFAULT NULL
)
RETURNS TABLE (
    agent_id bigint, phone text, event_id text, at_batch bigint, at_recipient integer, batch_key bigint,
    recipient_no integer, reason text, is_pending boolean
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_agent_id bigint := p_agent_id;
    v_phone    text COLLATE "C" := p_phone;
    v_next     record;
BEGIN
    FOR n IN 1 .. p_keys LOOP
        SELECT u.agent_id, u.phone INTO v_next
        FROM unreferenced_events AS u
        WHERE (u.agent_id, u.phone) > (v_agent_id, v_phone) AND (p_batch_key IS NULL OR u.agent_id = p_agent_id)
        ORDER BY u.agent_id, u.phone
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        v_agent_id := v_next.agent_id;
        v_phone := v_next.phone;
        CONTINUE WHEN p_batch_key IS NOT NULL AND NOT concerns_batch(p_batch_key, v_agent_id, v_phone);
        RETURN QUERY
        SELECT v_agent_id, v_phone, e.event_id, p.at_batch, p.at_recipient, p.batch_key, p.recipient_no, p.reason,
               EXISTS (SELECT FROM placement_jobs AS j WHERE j.agent_id = v_agent_id)
        FROM find_places(v_agent_id, v_phone, NULL, NULL) AS p
        LEFT JOIN LATERAL (
            SELECT f.event_id FROM facts AS f WHERE f.arrival_id = p.arrival_id
            UNION ALL
            SELECT w.event_id FROM unattributed AS w WHERE w.arrival_id = p.arrival_id
        ) AS e ON true
        WHERE ((p.at_batch, p.at_recipient) IS DISTINCT FROM (p.batch_key, p.recipient_no) OR p.reason = 'other_call')
          AND (p_batch_key IS NULL OR p_batch_key IN (p.at_batch, p.batch_key));
    END LOOP;
    IF v_next IS NOT NULL THEN
        RETURN QUERY SELECT v_agent_id, v_phone, NULL::text, NULL::bigint, NULL::integer, NULL::bigint, NULL::integer,
                            NULL::text, false;
    END IF;
END
$$;

-- Places the events of the next p_keys agents and phones again, under the ingest lock: when this commits, the events that
-- check_places() returns are where they belong.
CREATE OR REPLACE FUNCTION replace_places(p_agent_id bigint, p_phone text, p_keys integer)
RETURNS TABLE (
    agent_id bigint, phone text, event_id text, at_batch bigint, at_recipient integer, batch_key bigint,
    recipient_no integer, reason text, is_pending boolean
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_ingest();
    CREATE TEMPORARY TABLE checked_places ON COMMIT DROP AS
        SELECT * FROM check_places(p_agent_id, p_phone, p_keys);
    PERFORM place_events(k.agent_ids, k.phones, array_fill(NULL::timestamptz, ARRAY[cardinality(k.phones)]))
    FROM (SELECT array_agg(c.agent_id) AS agent_ids, array_agg(c.phone) AS phones
          FROM (SELECT DISTINCT agent_id, phone FROM checked_places WHERE event_id IS NOT NULL) AS c) AS k
    WHERE k.phones IS NOT NULL;
    RETURN QUERY SELECT * FROM checked_places;
END
$$;
