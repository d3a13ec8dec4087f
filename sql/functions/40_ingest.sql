-- The one way in: webhook, healing, replay and late registration all call this, and nothing else changes an outcome.
-- One call is one statement and one commit for a whole group of events; element n of every array is event n.
--
--   ledger and bodies → the lock → attribution → facts → outcomes, counters, feed positions
--
-- Events are inserted first, in the order of their ids, so two replicas that hold the same events wait and never
-- deadlock. The lock then serialises all that is derived, across replicas, until the commit: old state is read safely,
-- and feed positions become visible in their order.
--
-- On the way that every event takes, arrays are unnested side by side in a SELECT list, which passes rows on one by one;
-- unnest() of several arrays in FROM would first store each array's elements apart.
--
-- Of an event whose person was erased nothing is kept that tells who it was or what was said: see erase_recipients().
--
-- An event that is already known and waits unattributed is attributed anew: to retry one is to deliver it again.
--
-- Replicas of the version before signatures were kept call this without them; so the function that they knew goes in the
-- same commit in which this one comes.
DROP FUNCTION IF EXISTS ingest(
    text[], bytea[], text[], text[], bytea[], timestamptz[], text[], bigint[], text[], text[], integer[], text[], text[],
    integer[], integer[], text[], boolean[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], integer[], text[],
    text[]);
CREATE OR REPLACE FUNCTION ingest(
    p_event_ids text[], p_digests bytea[], p_event_types text[], p_targets text[], p_bodies bytea[],
    p_received_at timestamptz[], p_sources text[], p_agent_ids bigint[], p_phones text[], p_ref_tokens text[],
    p_ref_nos integer[], p_parameters text[], p_conversation_ids text[], p_attempt_numbers integer[],
    p_max_attempts integer[], p_statuses text[], p_is_final boolean[], p_next_retry_at timestamptz[],
    p_occurred_at timestamptz[], p_started_at timestamptz[], p_ended_at timestamptz[],
    p_duration_seconds integer[], p_failure_reasons text[], p_results text[],
    p_signatures bytea[] DEFAULT NULL,
    OUT applied integer, OUT duplicates integer, OUT conflicts integer, OUT unattributed integer
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
    v_arrivals   bigint[];   -- this group's arrival ids, one for each event
    v_new        bigint[];   -- those of them that are stored
    v_pending    bigint[];   -- arrival ids to attribute, null where nothing is to be done
    v_batches    bigint[];
    v_recipients integer[];
    v_methods    text[];
    v_reasons    text[];
    v_found      record;
    v_erased     boolean[];  -- whose person was erased: counted where it has a place, and nothing else of it is kept
    v_applied    bigint[];
    v_touched_batches    bigint[];
    v_touched_recipients integer[];
    v_known_at   timestamptz;
BEGIN
    SELECT array_agg(nextval('arrival_ids')) INTO v_arrivals FROM generate_series(1, v_count);

    WITH inserted AS (
        INSERT INTO events (event_id, digest, event_type, target, received_at, arrival_id, recorded_at)
        SELECT e.*, v_now
        FROM (SELECT unnest(p_event_ids) AS event_id, unnest(p_digests), unnest(p_event_types), unnest(p_targets),
                     unnest(p_received_at), unnest(v_arrivals)) AS e
        ORDER BY e.event_id COLLATE "C"
        ON CONFLICT (event_id) DO NOTHING
        RETURNING arrival_id
    )
    SELECT array_agg(arrival_id) INTO v_new FROM inserted;
    conflicts := 0;
    duplicates := v_count - coalesce(cardinality(v_new), 0);

    IF duplicates > 0 THEN
        WITH inserted AS (
            INSERT INTO event_conflicts (event_id, digest, event_type, target, received_at, arrival_id, recorded_at)
            SELECT e.event_id, e.digest, e.event_type, e.target, e.received_at, e.arrival_id, v_now
            FROM unnest(p_event_ids, p_digests, p_event_types, p_targets, p_received_at, v_arrivals)
                AS e (event_id, digest, event_type, target, received_at, arrival_id)
            CROSS JOIN LATERAL (SELECT digest FROM events WHERE events.event_id = e.event_id OFFSET 0) AS k
            WHERE k.digest <> e.digest
            ORDER BY 1, 2
            ON CONFLICT (event_id, digest) DO NOTHING
            RETURNING arrival_id
        )
        SELECT coalesce(cardinality(array_agg(arrival_id)), 0), v_new || array_agg(arrival_id)
        INTO conflicts, v_new
        FROM inserted;
        duplicates := duplicates - conflicts;
        -- A known event may be committed on this machine alone, since its wait for a standby was cut short. A transaction
        -- that writes nothing would not wait for the standby either; this one does, and for all that came before it.
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
        FROM unnest(p_event_ids, p_digests, v_arrivals) WITH ORDINALITY AS e (event_id, digest, arrival_id, nth)
        LEFT JOIN LATERAL (
            SELECT u.arrival_id
            FROM (
                SELECT k.arrival_id FROM events AS k WHERE k.event_id = e.event_id AND k.digest = e.digest
                UNION ALL
                SELECT c.arrival_id FROM event_conflicts AS c WHERE c.event_id = e.event_id AND c.digest = e.digest
            ) AS known
            CROSS JOIN LATERAL (
                SELECT arrival_id FROM unattributed WHERE unattributed.arrival_id = known.arrival_id OFFSET 0
            ) AS u
            LIMIT 1
        ) AS w ON true;
        -- Several deliveries of one that waits are attributed once.
        SELECT array_agg(CASE WHEN array_position(v_pending, p.arrival_id) = p.nth THEN p.arrival_id END ORDER BY p.nth)
        INTO v_pending
        FROM unnest(v_pending) WITH ORDINALITY AS p (arrival_id, nth);
    END IF;

    SELECT array_agg(b.batch_key ORDER BY e.nth),
           array_agg(CASE WHEN b.batch_key IS NOT NULL THEN e.ref_no END ORDER BY e.nth),
           array_agg('reference'::text)
    INTO v_batches, v_recipients, v_methods
    FROM (SELECT unnest(p_ref_tokens) AS ref_token, unnest(p_ref_nos) AS ref_no, unnest(p_agent_ids) AS agent_id,
                 generate_series(1, v_count) AS nth) AS e
    LEFT JOIN LATERAL (SELECT * FROM batches WHERE batches.ref_token = e.ref_token OFFSET 0) AS b
        ON b.agent_id = e.agent_id AND e.ref_no BETWEEN 1 AND b.recipient_count
        -- A recipient may have been withdrawn between a healer's look and now; few batches have any.
        AND (b.withdrawn_count = 0 OR NOT EXISTS (
            SELECT FROM recipients AS r
            WHERE r.batch_key = b.batch_key AND r.recipient_no = e.ref_no AND r.withdrawn_at IS NOT NULL));

    unattributed := 0;
    IF array_position(v_batches, NULL) IS NOT NULL THEN
        WITH events AS MATERIALIZED (
            SELECT *
            FROM unnest(v_batches, v_recipients, p_agent_ids, p_phones, p_parameters, p_started_at, p_occurred_at)
                WITH ORDINALITY
                AS e (batch_key, recipient_no, agent_id, phone, parameters, started_at, occurred_at, nth)
        ), found AS (
            SELECT e.nth, e.batch_key, e.recipient_no, 'reference' AS method, NULL AS reason
            FROM events AS e
            WHERE e.batch_key IS NOT NULL
            UNION ALL
            SELECT e.nth, r.batch_key, r.recipient_no, 'recipient', r.reason
            FROM events AS e
            CROSS JOIN LATERAL find_recipient(
                e.agent_id, e.phone, e.parameters::jsonb, coalesce(e.started_at, e.occurred_at)) AS r
            WHERE e.batch_key IS NULL
        )
        SELECT array_agg(f.batch_key ORDER BY f.nth), array_agg(f.recipient_no ORDER BY f.nth),
               array_agg(f.method ORDER BY f.nth), array_agg(f.reason ORDER BY f.nth)
        INTO v_batches, v_recipients, v_methods, v_reasons
        FROM found AS f;

        IF EXISTS (SELECT FROM erased_phones) THEN
            -- An event without a place is only noted in the ledger when its call is from before its person was erased, or
            -- may belong to their erased recipients alone; unless it is of the one that was made for them on the fly.
            SELECT array_agg(e.reason IS NOT NULL AND (
                       EXISTS (
                           SELECT FROM erased_phones AS p
                           WHERE p.phone_hash = hash_person('phone', e.phone)
                             AND coalesce(e.started_at, e.occurred_at, '-infinity') <= p.erased_at)
                       OR EXISTS (SELECT FROM find_erased(e.agent_id, e.phone, coalesce(e.started_at, e.occurred_at)))
                          AND NOT EXISTS (
                              SELECT FROM recipients AS r JOIN batches AS b ON b.batch_key = r.batch_key
                              WHERE r.phone = e.phone AND b.agent_id = e.agent_id AND r.withdrawn_at IS NULL)
                   ) ORDER BY e.nth)
            INTO v_erased
            FROM unnest(p_agent_ids, p_phones, v_reasons, p_started_at, p_occurred_at)
                WITH ORDINALITY AS e (agent_id, phone, reason, started_at, occurred_at, nth);
            PERFORM delete_bodies(ARRAY(SELECT v_pending[n] FROM generate_series(1, v_count) AS n WHERE v_erased[n]));
            FOR n IN 1 .. v_count LOOP
                CONTINUE WHEN NOT v_erased[n];
                SELECT min(k.batch_key) AS batch_key, min(k.recipient_no) AS recipient_no, count(*) AS found INTO v_found
                FROM find_erased(p_agent_ids[n], p_phones[n], coalesce(p_started_at[n], p_occurred_at[n])) AS k
                WHERE NOT k.is_registered;
                v_reasons[n] := NULL;
                IF v_found.found = 1 THEN
                    v_batches[n] := v_found.batch_key;
                    v_recipients[n] := v_found.recipient_no;
                    v_methods[n] := 'window';
                ELSE
                    v_pending[n] := NULL;
                END IF;
            END LOOP;
        END IF;

        -- One after the other, so that two events of one new phone make one recipient.
        FOR n IN 1 .. v_count LOOP
            CONTINUE WHEN v_pending[n] IS NULL OR v_reasons[n] IS DISTINCT FROM 'no_batch';
            SELECT * INTO v_found
            FROM find_by_window(p_agent_ids[n], p_phones[n], p_parameters[n]::jsonb,
                                coalesce(p_started_at[n], p_occurred_at[n]));
            v_batches[n] := v_found.batch_key;
            v_recipients[n] := v_found.recipient_no;
            v_methods[n] := 'window';
            v_reasons[n] := v_found.reason;
        END LOOP;

        WITH waiting AS (
            INSERT INTO unattributed (arrival_id, event_id, agent_id, phone, reason, received_at)
            SELECT e.arrival_id, e.event_id, e.agent_id, e.phone, e.reason, e.received_at
            FROM unnest(v_pending, p_event_ids, p_agent_ids, p_phones, v_reasons, p_received_at, p_results)
                AS e (arrival_id, event_id, agent_id, phone, reason, received_at, results)
            -- Results that are no JSON to Postgres are refused now, not when the event finds its place.
            WHERE e.arrival_id IS NOT NULL AND e.reason IS NOT NULL AND e.results::jsonb IS NOT NULL
            ON CONFLICT (arrival_id) DO UPDATE SET reason = excluded.reason, phone = excluded.phone
            RETURNING xmax = 0 AS is_new
        )
        SELECT count(*) FILTER (WHERE is_new) INTO unattributed FROM waiting;
    END IF;

    v_erased := NULL;
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
        END LOOP;
        PERFORM delete_bodies(ARRAY(SELECT v_pending[n] FROM generate_series(1, v_count) AS n WHERE v_erased[n]));
    END IF;

    WITH inserted AS (
        INSERT INTO facts (
            batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, attempt_number,
            max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds,
            failure_reason, results, recorded_at)
        SELECT
            e.batch_key, e.recipient_no, e.arrival_id, e.event_id, e.source, e.method, e.conversation_id,
            e.attempt_number, e.max_attempts, e.status, e.is_final, e.next_retry_at, e.occurred_at, e.started_at,
            e.ended_at, e.duration_seconds, e.failure_reason, e.results::jsonb, v_known_at
        FROM (
            SELECT unnest(v_batches) AS batch_key, unnest(v_recipients) AS recipient_no, unnest(v_pending) AS arrival_id,
                   unnest(p_event_ids) AS event_id, unnest(p_sources) AS source, unnest(v_methods) AS method,
                   unnest(p_conversation_ids) AS conversation_id, unnest(p_attempt_numbers) AS attempt_number,
                   unnest(p_max_attempts) AS max_attempts, unnest(p_statuses) AS status,
                   unnest(p_is_final) AS is_final, unnest(p_next_retry_at) AS next_retry_at,
                   unnest(p_occurred_at) AS occurred_at, unnest(p_started_at) AS started_at,
                   unnest(p_ended_at) AS ended_at, unnest(p_duration_seconds) AS duration_seconds,
                   unnest(p_failure_reasons) AS failure_reason, unnest(p_results) AS results
        ) AS e
        WHERE e.arrival_id IS NOT NULL AND e.batch_key IS NOT NULL
        RETURNING batch_key, recipient_no, arrival_id
    )
    SELECT array_agg(i.batch_key), array_agg(i.recipient_no), array_agg(i.arrival_id)
    INTO v_touched_batches, v_touched_recipients, v_applied
    FROM inserted AS i;
    applied := coalesce(cardinality(v_applied), 0);
    IF applied = 0 THEN
        RETURN;
    END IF;

    IF duplicates > 0 THEN
        DELETE FROM unattributed AS u WHERE u.arrival_id = ANY (v_applied);
    END IF;
    PERFORM apply_facts(v_touched_batches, v_touched_recipients, v_applied);
    IF true = ANY (v_erased) THEN
        UPDATE outcomes AS o
        SET state = 'erased'
        FROM (SELECT v_batches[n] AS batch_key, v_recipients[n] AS recipient_no
              FROM generate_series(1, v_count) AS n WHERE v_erased[n]) AS t
        WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no AND o.state <> 'withdrawn';
    END IF;

    -- Nothing was received after now: the service's clock may have been ahead, or this one may have been set back. A time
    -- in the future would stand there until it has come, and hold up every verdict and alarm that looks at it.
    INSERT INTO batch_activity AS a (batch_key, last_event_at)
    SELECT e.batch_key, least(max(e.received_at), v_known_at)
    FROM unnest(v_batches, v_pending, p_received_at) AS e (batch_key, arrival_id, received_at)
    WHERE e.batch_key IS NOT NULL AND e.arrival_id IS NOT NULL
    GROUP BY e.batch_key
    ON CONFLICT (batch_key) DO UPDATE
    SET last_event_at = greatest(least(a.last_event_at, v_known_at), excluded.last_event_at), revision = a.revision + 1;
END
$$;
