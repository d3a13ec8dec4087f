-- Keeps other_call_counts equal to a recount, whatever changes other_events.
CREATE OR REPLACE FUNCTION note_other_event() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.is_counted, OLD.kind, OLD.status, OLD.called_at) = (NEW.is_counted, NEW.kind, NEW.status, NEW.called_at) THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.is_counted THEN
        INSERT INTO other_call_counts AS c
        VALUES (coalesce(OLD.agent_id, 0), OLD.kind, (OLD.called_at AT TIME ZONE 'UTC')::date, OLD.status, -1)
        ON CONFLICT (agent_id, kind, day, status) DO UPDATE SET calls = c.calls - 1;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.is_counted THEN
        INSERT INTO other_call_counts AS c
        VALUES (coalesce(NEW.agent_id, 0), NEW.kind, (NEW.called_at AT TIME ZONE 'UTC')::date, NEW.status, 1)
        ON CONFLICT (agent_id, kind, day, status) DO UPDATE SET calls = c.calls + 1;
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER other_events_count AFTER INSERT OR UPDATE OR DELETE ON other_events
    FOR EACH ROW EXECUTE FUNCTION note_other_event();

-- Chooses the event that represents each call of the given conversations: calls outside batches are counted once, however
-- many events report them. Only content decides, never the order of arrival: the later event, a webhook before a
-- conversation, then the call that got further. If that one says completed and has no results, the first that says so too
-- and has some: results that are known are never lost.
CREATE OR REPLACE FUNCTION count_other_calls(p_conversation_ids text[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_key        record;
    v_arrivals   bigint[];
    v_calls      integer[];
    v_completed  boolean[];
    v_known      boolean[];
BEGIN
    FOR v_key IN
        SELECT DISTINCT o.conversation_id, o.agent_id
        FROM unnest(p_conversation_ids) AS c (conversation_id)
        JOIN other_events AS o ON o.conversation_id = c.conversation_id
    LOOP
        SELECT array_agg(e.arrival_id ORDER BY e.n),
               group_calls(array_agg(e.conversation_id ORDER BY e.n), array_agg(e.started_at ORDER BY e.n),
                           array_agg(coalesce(e.started_at, e.ended_at, e.occurred_at) ORDER BY e.n),
                           array_agg(greatest(e.started_at, e.ended_at, e.occurred_at) ORDER BY e.n),
                           array_agg(e.attempt_number ORDER BY e.n), array_agg(e.parameters ORDER BY e.n)),
               array_agg(e.status = 'completed' ORDER BY e.n), array_agg(knows_results(e.results) ORDER BY e.n)
        INTO v_arrivals, v_calls, v_completed, v_known
        FROM (
            SELECT o.*, row_number() OVER (
                       ORDER BY o.occurred_at DESC NULLS LAST, o.source DESC, status_rank(o.status) DESC NULLS LAST,
                                o.duration_seconds DESC NULLS LAST, o.event_id, o.arrival_id) AS n
            FROM other_events AS o
            WHERE o.conversation_id = v_key.conversation_id AND o.agent_id IS NOT DISTINCT FROM v_key.agent_id
        ) AS e;
        UPDATE other_events AS o
        SET is_counted = w.is_first
        FROM (SELECT c.arrival_id,
                     row_number() OVER (PARTITION BY c.call ORDER BY c.is_completed AND c.completed AND c.known DESC, c.n) = 1
                         AS is_first
              FROM (SELECT t.*, first_value(t.completed) OVER (PARTITION BY t.call ORDER BY t.n) AS is_completed
                    FROM unnest(v_arrivals, v_calls, v_completed, v_known) WITH ORDINALITY
                        AS t (arrival_id, call, completed, known, n)) AS c) AS w
        WHERE o.arrival_id = w.arrival_id AND o.is_counted <> w.is_first;
    END LOOP;
END
$$;

-- Makes waiting events, and events placed without a reference, calls outside batches: under the ingest lock. p_phones: the
-- people, null where unknown, if they are not the phones that were stored; p_parameters: those that no evidence has.
-- p_is_ruled: a rule knows these events; others of the same calls then go with them, as find_places() says. Returns how many
-- of the given events moved. An event of an erased person from before the erasure is counted, and nothing else of it is kept.
DROP FUNCTION IF EXISTS move_other_calls(bigint[], text[], text[], boolean);
CREATE OR REPLACE FUNCTION move_other_calls(
    p_arrival_ids bigint[], p_kinds text[], p_phones text[], p_parameters jsonb[], p_is_ruled boolean
) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now        CONSTANT timestamptz := clock_timestamp();
    v_placed     bigint[];
    v_batches    bigint[];
    v_recipients integer[];
    v_agents     bigint[];   -- of the events to place again, as parallel arrays
    v_phones     text[];
    v_times      timestamptz[];
    v_moved      bigint[];
    v_conversations text[];
    v_erased     bigint[];
BEGIN
    SELECT array_agg(f.arrival_id), array_agg(f.batch_key), array_agg(f.recipient_no), array_agg(u.agent_id),
           array_agg(u.phone), array_agg(earliest_call(u.started_at, u.called_at))
    INTO v_placed, v_batches, v_recipients, v_agents, v_phones, v_times
    FROM unnest(p_arrival_ids) AS a (arrival_id)
    CROSS JOIN LATERAL (SELECT * FROM unreferenced_events WHERE unreferenced_events.arrival_id = a.arrival_id OFFSET 0) AS u
    CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = a.arrival_id OFFSET 0) AS f;
    IF v_placed IS NOT NULL THEN
        PERFORM take_facts(v_placed);
    END IF;

    WITH moved AS (
        INSERT INTO other_events (
            arrival_id, event_id, kind, is_ruled, agent_id, phone, conversation_id, attempt_number, status, source,
            called_at, occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, parameters,
            received_at, recorded_at)
        SELECT w.arrival_id, w.event_id, a.kind, p_is_ruled, w.agent_id,
               CASE WHEN p_phones IS NULL THEN w.phone ELSE a.phone END, w.conversation_id,
               w.attempt_number, w.status, w.source,
               coalesce(w.started_at, w.ended_at, w.occurred_at, w.received_at), w.occurred_at, w.started_at, w.ended_at,
               w.duration_seconds, w.failure_reason, w.results, coalesce(u.parameters, a.parameters), w.received_at, v_now
        FROM unnest(p_arrival_ids, p_kinds, p_phones, p_parameters) AS a (arrival_id, kind, phone, parameters)
        CROSS JOIN LATERAL (SELECT * FROM unattributed WHERE unattributed.arrival_id = a.arrival_id
                            AND unattributed.source IS NOT NULL OFFSET 0) AS w
        LEFT JOIN LATERAL (SELECT k.parameters FROM unreferenced_events AS k
                           WHERE k.arrival_id = a.arrival_id OFFSET 0) AS u ON true
        ON CONFLICT (arrival_id) DO NOTHING
        RETURNING arrival_id, conversation_id
    )
    SELECT array_agg(m.arrival_id), array_agg(m.conversation_id) INTO v_moved, v_conversations FROM moved AS m;
    IF v_moved IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM unattributed WHERE arrival_id = ANY (v_moved);
    DELETE FROM unreferenced_events WHERE arrival_id = ANY (v_moved);
    DELETE FROM outstanding_details WHERE arrival_id = ANY (v_moved);
    PERFORM count_other_calls(v_conversations);

    IF EXISTS (SELECT FROM erased_phones) THEN
        SELECT array_agg(o.arrival_id) INTO v_erased
        FROM unnest(v_moved) AS m (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM other_events AS k WHERE k.arrival_id = m.arrival_id OFFSET 0) AS o
        JOIN erased_phones AS e ON e.phone_hash = hash_person('phone', o.phone) AND e.erased_at >= o.called_at;
    END IF;
    IF v_placed IS NOT NULL THEN
        PERFORM withdraw_empty(v_batches, v_recipients);
    END IF;
    IF p_is_ruled THEN
        SELECT v_agents || array_agg(u.agent_id), v_phones || array_agg(u.phone),
               v_times || array_agg(earliest_call(u.started_at, u.called_at))
        INTO v_agents, v_phones, v_times
        FROM (SELECT DISTINCT unnest(v_conversations) AS conversation_id) AS m
        CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k WHERE k.conversation_id = m.conversation_id OFFSET 0) AS u;
    END IF;
    IF v_agents IS NOT NULL THEN
        PERFORM place_events(v_agents, v_phones, v_times);
    END IF;
    IF v_erased IS NOT NULL THEN  -- last, because it hides the conversations
        PERFORM erase_other_calls(v_erased);
    END IF;
    RETURN cardinality(v_moved);
END
$$;

-- Erases the people of calls outside batches, under the ingest lock: the calls still count, by outcome, time and duration.
-- Returns how many bodies were deleted.
CREATE OR REPLACE FUNCTION erase_other_calls(p_arrival_ids bigint[]) RETURNS integer
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE other_events
    SET phone = NULL, parameters = NULL, results = 'null', failure_reason = NULL,
        event_id = hash_call(event_id), conversation_id = hash_call(conversation_id), erased_at = clock_timestamp()
    WHERE arrival_id = ANY (p_arrival_ids) AND erased_at IS NULL;
    RETURN delete_bodies(p_arrival_ids);
END
$$;

-- Moves events, placed or waiting, as move_other_calls() does: for a rule that is newer than they are. p_phones: the people,
-- null where unknown.
CREATE OR REPLACE FUNCTION reclassify_calls(p_arrival_ids bigint[], p_kinds text[], p_phones text[]) RETURNS integer
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lock_ingest();
    RETURN move_other_calls(p_arrival_ids, p_kinds, p_phones, NULL, true);
END
$$;

-- Erases the people of the next calls outside batches that were received before a time, for retention. Returns how many.
CREATE OR REPLACE FUNCTION forget_other_calls(p_before timestamptz, p_rows integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_forgotten integer;
BEGIN
    WITH forgotten AS (
        UPDATE other_events AS o
        SET phone = NULL, parameters = NULL
        WHERE o.arrival_id = ANY (ARRAY(SELECT k.arrival_id FROM other_events AS k
                                        WHERE (k.phone IS NOT NULL OR k.parameters IS NOT NULL)
                                          AND k.received_at < p_before
                                        ORDER BY k.received_at LIMIT p_rows))
        RETURNING 1
    )
    SELECT count(*) INTO v_forgotten FROM forgotten;
    RETURN v_forgotten;
END
$$;
