-- The signature of the version before, which then calls this one.
DROP FUNCTION IF EXISTS ingest(
    text[], bytea[], text[], text[], bytea[], timestamptz[], text[], bigint[], text[], text[], integer[], text[], text[],
    integer[], integer[], text[], boolean[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], integer[], text[], text[], bytea[]);

-- The key that it relies on takes the place of the ids' in the same commit; a group on its way meanwhile is written again.
DO $$
BEGIN
    IF to_regclass('events_by_week') IS NOT NULL THEN
        ALTER TABLE events
            DROP CONSTRAINT events_pkey,
            ADD CONSTRAINT events_pkey PRIMARY KEY USING INDEX events_by_week;
    END IF;
END $$;

-- The one way in: webhook, healing, replay and late registration all call this, and nothing else changes an outcome.
-- One call is one statement and one commit for a whole group of events; element n of every array is event n.
--
--   ledger and bodies → the lock → references → facts → outcomes, counters, feed positions → the events without
--
-- Events are inserted first, in the order of their key, so two replicas that hold the same events wait and never
-- deadlock. The key begins with the week of the event, so that new ones go to one small part of its index, however many are
-- stored. The lock then serialises all derived data, across replicas, until the commit: old state is read safely, and
-- feed positions become visible in their order.
--
-- On the path of every event, arrays are unnested side by side in a SELECT list, which passes rows on one by one;
-- unnest() of several arrays in FROM would first store each array's elements apart.
--
-- Nothing of an erased person's event is kept that identifies the person or says what was said: see erase_recipients().
--
-- Events that no reference names wait first, and are then placed by find_places(); a call that is known by reference may
-- change where those belong. One that is known already and waits is placed again: to retry one is to deliver it again.
-- Those with a kind, by a rule, are calls outside batches, and so are other events of such calls.
CREATE OR REPLACE FUNCTION ingest(
    p_event_ids text[], p_digests bytea[], p_event_types text[], p_targets text[], p_bodies bytea[],
    p_received_at timestamptz[], p_sources text[], p_agent_ids bigint[], p_phones text[], p_ref_tokens text[],
    p_ref_nos integer[], p_parameters text[], p_conversation_ids text[], p_attempt_numbers integer[],
    p_max_attempts integer[], p_statuses text[], p_is_final boolean[], p_next_retry_at timestamptz[],
    p_occurred_at timestamptz[], p_started_at timestamptz[], p_ended_at timestamptz[],
    p_duration_seconds integer[], p_failure_reasons text[], p_results text[],
    p_signatures bytea[] DEFAULT NULL, p_kinds text[] DEFAULT NULL,
    p_from_phones text[] DEFAULT NULL, p_trace_ids text[] DEFAULT NULL,
    OUT applied integer, OUT duplicates integer, OUT conflicts integer, OUT unattributed integer, OUT other_calls integer
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now        CONSTANT timestamptz := clock_timestamp();
    v_count      CONSTANT integer := cardinality(p_event_ids);
    v_arrivals   bigint[];   -- the arrival ids of this group, one for each event
    v_weeks      date[];     -- their weeks, as event_week() has them
    v_new        bigint[];   -- those of them that are stored
    v_pending    bigint[];   -- arrival ids to attribute, null if there is nothing to do
    v_batches    bigint[];   -- where the reference says
    v_recipients integer[];
    v_held_phones text[];    -- their phones
    v_bearing    bigint[];   -- batches whose calls carry references for the first time
    v_waiting    bigint[];   -- events without a usable reference
    v_erased     boolean[];  -- events of erased people: counted if they have a place, and nothing else of them is kept
    v_applied    bigint[];
    v_touched_batches    bigint[];
    v_touched_recipients integer[];
    v_agents     bigint[];   -- of calls, as parallel arrays: events placed by their phones may belong elsewhere now
    v_phones     text[];
    v_times      timestamptz[];
    v_placed     bigint[];
    v_known_at   timestamptz;
BEGIN
    SELECT array_agg(nextval('arrival_ids')), array_agg(event_week(t.occurred_at)) INTO v_arrivals, v_weeks
    FROM unnest(p_occurred_at) AS t (occurred_at);

    WITH inserted AS (
        INSERT INTO events (week, event_id, digest, event_type, target, received_at, arrival_id, recorded_at)
        SELECT e.*, v_now
        FROM (SELECT unnest(v_weeks) AS week, unnest(p_event_ids) AS event_id, unnest(p_digests), unnest(p_event_types),
                     unnest(p_targets), unnest(p_received_at), unnest(v_arrivals)) AS e
        WHERE NOT EXISTS (SELECT FROM events AS k WHERE k.week = '-infinity' AND k.event_id = e.event_id)
        ORDER BY e.week, e.event_id COLLATE "C"
        ON CONFLICT (week, event_id) DO NOTHING
        RETURNING arrival_id
    )
    SELECT array_agg(arrival_id) INTO v_new FROM inserted;
    conflicts := 0;
    duplicates := v_count - coalesce(cardinality(v_new), 0);

    IF duplicates > 0 THEN
        WITH inserted AS (
            INSERT INTO event_conflicts (event_id, digest, event_type, target, received_at, arrival_id, recorded_at)
            SELECT e.event_id, e.digest, e.event_type, e.target, e.received_at, e.arrival_id, v_now
            FROM unnest(v_weeks, p_event_ids, p_digests, p_event_types, p_targets, p_received_at, v_arrivals)
                AS e (week, event_id, digest, event_type, target, received_at, arrival_id)
            WHERE NOT EXISTS (SELECT FROM events AS k WHERE k.week = ANY (ARRAY[e.week, '-infinity'])
                              AND k.event_id = e.event_id AND k.digest = e.digest)
            ORDER BY 1, 2
            ON CONFLICT (event_id, digest) DO NOTHING
            RETURNING arrival_id
        )
        SELECT coalesce(cardinality(array_agg(arrival_id)), 0), v_new || array_agg(arrival_id)
        INTO conflicts, v_new
        FROM inserted;
        duplicates := duplicates - conflicts;
        IF EXISTS (SELECT FROM unnest(v_weeks, p_event_ids) AS e (week, event_id)
                   WHERE NOT EXISTS (SELECT FROM events AS k WHERE k.week = ANY (ARRAY[e.week, '-infinity'])
                                     AND k.event_id = e.event_id)) THEN
            RAISE EXCEPTION 'date_events_step() has moved an event to another week' USING ERRCODE = 'serialization_failure';
        END IF;
        -- A known event may be committed on this server alone, because its wait for a standby was cut short. A transaction
        -- that writes nothing would not wait for the standby; this one does, for itself and for everything before it.
        PERFORM pg_logical_emit_message(true, 'outcomes', 'duplicates');
    END IF;

    INSERT INTO event_bodies (arrival_id, recorded_at, body, signature)
    SELECT e.arrival_id, v_now, e.body, e.signature
    FROM (SELECT unnest(v_arrivals) AS arrival_id, unnest(p_bodies) AS body, unnest(p_signatures) AS signature) AS e
    WHERE duplicates = 0 OR e.arrival_id = ANY (v_new);

    PERFORM lock_ingest();
    v_known_at := clock_timestamp();  -- under the lock: facts are known in the order of their commits

    v_pending := v_arrivals;
    IF duplicates > 0 THEN
        SELECT array_agg(CASE WHEN e.arrival_id = ANY (v_new) THEN e.arrival_id ELSE w.arrival_id END ORDER BY e.nth)
        INTO v_pending
        FROM unnest(v_weeks, p_event_ids, p_digests, v_arrivals) WITH ORDINALITY AS e (week, event_id, digest, arrival_id, nth)
        LEFT JOIN LATERAL (
            SELECT u.arrival_id
            FROM (
                SELECT k.arrival_id FROM events AS k
                WHERE k.week = ANY (ARRAY[e.week, '-infinity']) AND k.event_id = e.event_id AND k.digest = e.digest
                UNION ALL
                SELECT c.arrival_id FROM event_conflicts AS c WHERE c.event_id = e.event_id AND c.digest = e.digest
            ) AS known
            CROSS JOIN LATERAL (
                SELECT arrival_id FROM unattributed WHERE unattributed.arrival_id = known.arrival_id OFFSET 0
            ) AS u
            LIMIT 1
        ) AS w ON true;
        -- Several deliveries of a waiting event are attributed once.
        SELECT array_agg(CASE WHEN array_position(v_pending, p.arrival_id) = p.nth THEN p.arrival_id END ORDER BY p.nth)
        INTO v_pending
        FROM unnest(v_pending) WITH ORDINALITY AS p (arrival_id, nth);
    END IF;

    -- By reference. The recipient's phone is looked up with it.
    SELECT array_agg(r.batch_key ORDER BY e.nth), array_agg(r.recipient_no ORDER BY e.nth),
           array_agg(r.phone ORDER BY e.nth), array_agg(DISTINCT r.bearing) FILTER (WHERE e.source = 'webhook')
    INTO v_batches, v_recipients, v_held_phones, v_bearing
    FROM (SELECT unnest(p_ref_tokens) AS ref_token, unnest(p_ref_nos) AS ref_no, unnest(p_agent_ids) AS agent_id,
                 unnest(p_sources) AS source, unnest(p_started_at) AS started_at, unnest(p_ended_at) AS ended_at,
                 unnest(p_occurred_at) AS occurred_at, unnest(p_phones) AS phone, generate_series(1, v_count) AS nth) AS e
    LEFT JOIN LATERAL (
        SELECT CASE WHEN NOT l.is_late THEN b.batch_key END AS batch_key,
               CASE WHEN NOT l.is_late THEN k.recipient_no END AS recipient_no, k.phone, b.batch_key AS bearing
        FROM batches AS b
        CROSS JOIN LATERAL (SELECT * FROM recipients WHERE recipients.batch_key = b.batch_key
                            AND recipients.recipient_no = e.ref_no OFFSET 0) AS k
        -- A call after the batch was seen finished may come from a copy of its file: its reference is judged below. It
        -- still shows that the provider returns the batch's references.
        CROSS JOIN LATERAL (
            SELECT coalesce(k.phone = e.phone AND coalesce(e.started_at, e.ended_at, e.occurred_at)
                                                  > b.closed_at + interval '5 minutes', false) AS is_late
        ) AS l
        -- A recipient may have been withdrawn since its reference was created.
        WHERE b.ref_token = e.ref_token AND b.agent_id = e.agent_id AND e.ref_no BETWEEN 1 AND b.recipient_count
          AND k.withdrawn_at IS NULL
        OFFSET 0
    ) AS r ON true;
    v_bearing := ARRAY(SELECT b FROM unnest(v_bearing) AS b
                       WHERE b IS NOT NULL AND NOT EXISTS (SELECT FROM reference_batches AS k WHERE k.batch_key = b));
    IF v_bearing <> '{}' THEN
        INSERT INTO reference_batches SELECT unnest(v_bearing) ON CONFLICT DO NOTHING;
        PERFORM reopen_proven_uploads(v_bearing);
        PERFORM place_again(b, NULL) FROM unnest(v_bearing) AS b;
    END IF;

    -- Without a reference: stored as waiting first, with the evidence, and placed once this group's facts are stored.
    v_waiting := ARRAY(SELECT v_pending[n] FROM generate_series(1, v_count) AS n
                       WHERE v_pending[n] IS NOT NULL AND v_batches[n] IS NULL);
    IF v_waiting <> '{}' THEN
        WITH events AS MATERIALIZED (
            SELECT *
            FROM unnest(v_pending, v_batches, p_event_ids, p_agent_ids, p_phones, p_parameters, p_received_at, p_sources,
                        p_conversation_ids, p_attempt_numbers, p_max_attempts, p_statuses, p_is_final, p_next_retry_at,
                        p_occurred_at, p_started_at, p_ended_at, p_duration_seconds, p_failure_reasons, p_results,
                        p_from_phones, p_trace_ids)
                AS e (arrival_id, batch_key, event_id, agent_id, phone, parameters, received_at, source, conversation_id,
                      attempt_number, max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at,
                      duration_seconds, failure_reason, results, from_phone, trace_id)
            WHERE e.arrival_id IS NOT NULL AND e.batch_key IS NULL
        ), evidence AS (
            INSERT INTO unreferenced_events (
                arrival_id, agent_id, phone, conversation_id, attempt_number, is_final, started_at, called_at, until,
                scanned_at, parameters)
            SELECT e.arrival_id, e.agent_id, e.phone, e.conversation_id, e.attempt_number,
                   e.is_final AND ends_recipient(e.source, e.status, e.attempt_number), e.started_at,
                   coalesce(e.started_at, e.ended_at, e.occurred_at),
                   greatest(e.started_at, e.ended_at, e.occurred_at),
                   coalesce(e.started_at, e.ended_at, e.occurred_at, e.received_at),
                   CASE WHEN jsonb_typeof(e.parameters::jsonb) = 'object' THEN nullif(e.parameters::jsonb, '{}') END
            FROM events AS e
            WHERE e.agent_id IS NOT NULL AND e.phone IS NOT NULL
            ON CONFLICT (arrival_id) DO NOTHING
        ), waiting AS (
            INSERT INTO unattributed (
                arrival_id, event_id, agent_id, phone, reason, received_at, source, conversation_id, attempt_number,
                max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds,
                failure_reason, results, from_phone, trace_id)
            SELECT e.arrival_id, e.event_id, e.agent_id, e.phone, 'no_batch', e.received_at, e.source, e.conversation_id,
                   e.attempt_number, e.max_attempts, e.status, e.is_final, e.next_retry_at, e.occurred_at, e.started_at,
                   e.ended_at, e.duration_seconds, e.failure_reason, e.results::jsonb, e.from_phone, e.trace_id
            FROM events AS e
            ON CONFLICT (arrival_id) DO UPDATE
            SET phone = excluded.phone, source = excluded.source, conversation_id = excluded.conversation_id,
                attempt_number = excluded.attempt_number, max_attempts = excluded.max_attempts, status = excluded.status,
                is_final = excluded.is_final, next_retry_at = excluded.next_retry_at, occurred_at = excluded.occurred_at,
                started_at = excluded.started_at, ended_at = excluded.ended_at,
                duration_seconds = excluded.duration_seconds, failure_reason = excluded.failure_reason,
                results = excluded.results, from_phone = excluded.from_phone, trace_id = excluded.trace_id
            RETURNING arrival_id, xmax = 0 AS is_new
        )
        SELECT array_agg(w.arrival_id) FILTER (WHERE w.is_new) INTO v_new FROM waiting AS w;
    ELSE
        v_new := NULL;
    END IF;

    IF v_waiting <> '{}' AND p_kinds IS NOT NULL THEN
        PERFORM move_other_calls(
            array_agg(e.arrival_id), array_agg(e.kind), NULL,
            array_agg(CASE WHEN jsonb_typeof(e.parameters::jsonb) = 'object' THEN nullif(e.parameters::jsonb, '{}') END), true)
        FROM unnest(v_pending, v_batches, p_kinds, p_parameters) AS e (arrival_id, batch_key, kind, parameters)
        WHERE e.arrival_id IS NOT NULL AND e.batch_key IS NULL AND e.kind IS NOT NULL
        HAVING count(*) > 0;
    END IF;

    IF EXISTS (SELECT FROM erased_recipients) THEN
        SELECT array_agg(EXISTS (SELECT FROM erased_recipients AS k
                                 WHERE k.batch_key = e.batch_key AND k.recipient_no = e.recipient_no) ORDER BY e.nth)
        INTO v_erased
        FROM unnest(v_batches, v_recipients) WITH ORDINALITY AS e (batch_key, recipient_no, nth);
        FOR n IN 1 .. v_count LOOP
            CONTINUE WHEN NOT v_erased[n];
            p_conversation_ids[n] := hash_call(p_conversation_ids[n]);
            p_failure_reasons[n] := NULL;
            p_results[n] := 'null';
            p_trace_ids[n] := NULL;
        END LOOP;
        PERFORM delete_bodies(ARRAY(SELECT v_pending[n] FROM generate_series(1, v_count) AS n WHERE v_erased[n]));
    END IF;

    WITH inserted AS (
        INSERT INTO facts (
            batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, attempt_number,
            max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds,
            failure_reason, results, recorded_at, from_phone, trace_id)
        SELECT
            e.batch_key, e.recipient_no, e.arrival_id, e.event_id, e.source, 'reference', e.conversation_id,
            e.attempt_number, e.max_attempts, e.status, e.is_final, e.next_retry_at, e.occurred_at, e.started_at,
            e.ended_at, e.duration_seconds, e.failure_reason, e.results::jsonb, v_known_at, e.from_phone, e.trace_id
        FROM (
            SELECT unnest(v_batches) AS batch_key, unnest(v_recipients) AS recipient_no, unnest(v_pending) AS arrival_id,
                   unnest(p_event_ids) AS event_id, unnest(p_sources) AS source,
                   unnest(p_conversation_ids) AS conversation_id, unnest(p_attempt_numbers) AS attempt_number,
                   unnest(p_max_attempts) AS max_attempts, unnest(p_statuses) AS status,
                   unnest(p_is_final) AS is_final, unnest(p_next_retry_at) AS next_retry_at,
                   unnest(p_occurred_at) AS occurred_at, unnest(p_started_at) AS started_at,
                   unnest(p_ended_at) AS ended_at, unnest(p_duration_seconds) AS duration_seconds,
                   unnest(p_failure_reasons) AS failure_reason, unnest(p_results) AS results,
                   unnest(p_from_phones) AS from_phone, unnest(p_trace_ids) AS trace_id
        ) AS e
        WHERE e.arrival_id IS NOT NULL AND e.batch_key IS NOT NULL
        RETURNING batch_key, recipient_no, arrival_id
    )
    SELECT array_agg(i.batch_key), array_agg(i.recipient_no), array_agg(i.arrival_id)
    INTO v_touched_batches, v_touched_recipients, v_applied
    FROM inserted AS i;
    applied := coalesce(cardinality(v_applied), 0);
    IF applied > 0 THEN
        IF duplicates > 0 THEN
            DELETE FROM unattributed AS u WHERE u.arrival_id = ANY (v_applied);
            DELETE FROM unreferenced_events AS u WHERE u.arrival_id = ANY (v_applied);
        END IF;
        PERFORM apply_facts(v_touched_batches, v_touched_recipients, v_applied);
        IF true = ANY (v_erased) THEN
            UPDATE outcomes AS o
            SET state = 'erased'
            FROM (SELECT v_batches[n] AS batch_key, v_recipients[n] AS recipient_no
                  FROM generate_series(1, v_count) AS n WHERE v_erased[n]) AS t
            WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no AND o.state <> 'withdrawn';
        END IF;

        -- Reference and phone contradict each other: it counts by the reference, and is reported.
        INSERT INTO reference_contradictions (arrival_id, agent_id, phone, batch_key, recipient_no, event_id, received_at)
        SELECT e.arrival_id, e.agent_id, e.phone, e.batch_key, e.recipient_no, e.event_id, e.received_at
        FROM (SELECT unnest(v_pending) AS arrival_id, unnest(p_agent_ids) AS agent_id, unnest(p_phones) AS phone,
                     unnest(v_held_phones) AS held_phone, unnest(v_batches) AS batch_key,
                     unnest(v_recipients) AS recipient_no, unnest(p_event_ids) AS event_id,
                     unnest(p_received_at) AS received_at, unnest(p_sources) AS source) AS e
        WHERE e.arrival_id IS NOT NULL AND e.phone <> e.held_phone AND e.source = 'webhook'
        ON CONFLICT (arrival_id) DO NOTHING;

        -- Nothing was received after now: the service's clock may have been ahead, or this one may have been set back. A
        -- time in the future would stay until it has passed, and hold up every verdict and alarm that reads it.
        INSERT INTO batch_activity AS a (batch_key, last_event_at, last_call_at, last_webhook_at)
        SELECT e.batch_key, least(max(e.received_at), v_known_at), max(coalesce(e.started_at, e.ended_at, e.occurred_at)),
               max(least(e.received_at, v_known_at)) FILTER (WHERE e.source = 'webhook')
        FROM unnest(v_batches, v_pending, p_received_at, p_started_at, p_ended_at, p_occurred_at, p_sources)
            AS e (batch_key, arrival_id, received_at, started_at, ended_at, occurred_at, source)
        WHERE e.batch_key IS NOT NULL AND e.arrival_id IS NOT NULL
        GROUP BY e.batch_key
        ON CONFLICT (batch_key) DO UPDATE
        SET last_event_at = greatest(least(a.last_event_at, v_known_at), excluded.last_event_at),
            last_call_at = greatest(a.last_call_at, excluded.last_call_at), revision = a.revision + 1,
            last_webhook_at = greatest(CASE WHEN a.last_webhook_at <= v_known_at THEN a.last_webhook_at END,
                                       excluded.last_webhook_at);
    END IF;

    -- Places events without a reference, and places those again that follow a call known by reference, share its
    -- conversation, or may be refuted by it: earlier calls of its batch's time that would end the recipient, or whose number
    -- is not a lower one.
    IF EXISTS (SELECT FROM unreferenced_events) THEN
        SELECT array_agg(e.agent_id), array_agg(e.phone), array_agg(e.called_at)
        INTO v_agents, v_phones, v_times
        FROM (SELECT unnest(p_agent_ids) AS agent_id, unnest(v_held_phones) AS held_phone, unnest(p_phones) AS phone,
                     unnest(v_pending) AS arrival_id, unnest(p_started_at) AS started_at, unnest(p_ended_at) AS ended_at,
                     unnest(p_occurred_at) AS occurred_at, unnest(p_conversation_ids) AS conversation_id,
                     unnest(v_batches) AS batch_key, unnest(p_attempt_numbers) AS attempt_number) AS g
        CROSS JOIN LATERAL (
            SELECT g.agent_id, v.phone, CASE WHEN k.called_at IS NOT NULL THEN least(k.called_at, c.called_at) END AS called_at
            FROM (
                VALUES (g.phone), (nullif(g.held_phone, g.phone))
                UNION ALL
                -- The same call with another phone.
                SELECT u.phone
                FROM (SELECT * FROM unreferenced_events AS w WHERE w.conversation_id = g.conversation_id OFFSET 0) AS u
                WHERE g.batch_key IS NULL AND u.agent_id = g.agent_id AND u.phone <> g.phone
            ) AS v (phone)
            CROSS JOIN LATERAL earliest_call(g.started_at, coalesce(g.ended_at, g.occurred_at)) AS k (called_at)
            CROSS JOIN LATERAL (
                SELECT min(u.called_at) AS called_at FROM unreferenced_events AS u
                WHERE u.agent_id = g.agent_id AND u.phone = v.phone
                  AND CASE WHEN u.conversation_id = g.conversation_id THEN true
                           WHEN g.batch_key IS NULL OR u.called_at >= k.called_at THEN false
                           WHEN NOT u.is_final AND u.attempt_number < g.attempt_number THEN false
                           ELSE u.called_at >= (SELECT least(b.prepared_at, b.created_at) - interval '5 minutes'
                                                FROM batches AS b WHERE b.batch_key = g.batch_key) END
            ) AS c
        ) AS e
        WHERE g.arrival_id IS NOT NULL AND e.phone IS NOT NULL
          AND EXISTS (SELECT FROM unreferenced_events AS u
                      WHERE u.agent_id = e.agent_id AND u.phone = e.phone
                        AND (u.called_at >= coalesce(e.called_at, '-infinity') - interval '10 s' OR u.called_at IS NULL)
                      OFFSET 0);
        v_placed := place_events(v_agents, v_phones, v_times);
        applied := applied + (SELECT count(*) FROM unnest(v_placed) AS p WHERE p = ANY (v_pending));
    END IF;
    unattributed := 0;
    other_calls := 0;
    IF v_waiting <> '{}' THEN
        unattributed := (SELECT count(*) FROM unattributed AS u WHERE u.arrival_id = ANY (v_new));
        other_calls := (SELECT count(*) FROM other_events AS o WHERE o.arrival_id = ANY (v_waiting));
    END IF;

    IF 'healed' = ANY (p_sources) OR EXISTS (SELECT FROM outstanding_details) THEN
        PERFORM note_details(
            v_pending, p_sources, p_conversation_ids, p_statuses, p_started_at, p_failure_reasons, p_results);
    END IF;
    IF EXISTS (SELECT FROM erased_phones) THEN
        PERFORM erase_late_callers(
            v_pending, p_from_phones,
            ARRAY(SELECT coalesce(p_started_at[n], p_ended_at[n], p_occurred_at[n], p_received_at[n])
                  FROM generate_series(1, v_count) AS n));
    END IF;
END
$$;
