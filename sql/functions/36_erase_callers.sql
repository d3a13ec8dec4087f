-- Which of the given events are of calls that a person placed by hand, at a recipient who is not erased: the event placed,
-- and those of its call that followed it there.
CREATE OR REPLACE FUNCTION find_placed_by_hand(p_arrival_ids bigint[]) RETURNS bigint[]
LANGUAGE sql STABLE
AS $$
SELECT array_agg(DISTINCT f.arrival_id)
FROM unnest(p_arrival_ids) AS a (arrival_id)
CROSS JOIN LATERAL (
    SELECT k.arrival_id, k.batch_key, k.recipient_no, k.conversation_id FROM facts AS k WHERE k.arrival_id = a.arrival_id
    UNION ALL
    SELECT k.arrival_id, k.batch_key, k.recipient_no, k.conversation_id FROM past_facts AS k
    WHERE k.arrival_id = a.arrival_id
    OFFSET 0
) AS f
WHERE NOT EXISTS (SELECT FROM erased_recipients AS e
                  WHERE e.batch_key = f.batch_key AND e.recipient_no = f.recipient_no)
  AND (EXISTS (SELECT FROM facts AS m
               WHERE m.batch_key = f.batch_key AND m.recipient_no = f.recipient_no AND m.method = 'manual'
                 AND m.conversation_id = f.conversation_id)
       OR EXISTS (SELECT FROM past_facts AS m
                  WHERE m.batch_key = f.batch_key AND m.recipient_no = f.recipient_no AND m.method = 'manual'
                    AND m.conversation_id = f.conversation_id))
$$;

-- Erases events that were placed by hand at somebody else's recipient, under the ingest lock: the calls still count there, by
-- outcome, time and duration, as those of an erased recipient do. They stay where they are, and only their hashed
-- conversation holds them together. Returns how many bodies were deleted.
CREATE OR REPLACE FUNCTION erase_placed_calls(p_arrival_ids bigint[]) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_batches    bigint[];   -- their recipients
    v_recipients integer[];
    v_arrivals   bigint[];   -- all facts of those recipients
    v_before     jsonb;      -- their outcomes
BEGIN
    SELECT array_agg(t.batch_key), array_agg(t.recipient_no)
    INTO v_batches, v_recipients
    FROM (
        SELECT DISTINCT f.batch_key, f.recipient_no
        FROM unnest(p_arrival_ids) AS a (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM facts AS k WHERE k.arrival_id = a.arrival_id OFFSET 0) AS f
    ) AS t;
    UPDATE past_facts AS f
    SET results = 'null', failure_reason = NULL, trace_id = NULL, conversation_id = hash_call(f.conversation_id)
    FROM unnest(p_arrival_ids) AS a (arrival_id)
    WHERE f.arrival_id = a.arrival_id;
    IF v_batches IS NOT NULL THEN
        SELECT array_agg(f.arrival_id) INTO v_arrivals
        FROM unnest(v_batches, v_recipients) AS t (batch_key, recipient_no)
        CROSS JOIN LATERAL (SELECT arrival_id FROM facts WHERE facts.batch_key = t.batch_key
                            AND facts.recipient_no = t.recipient_no OFFSET 0) AS f;
        PERFORM apply_facts(v_batches, v_recipients, NULL);
        v_before := take_outcomes(v_batches, v_recipients);
        UPDATE facts AS f
        SET results = 'null', failure_reason = NULL, trace_id = NULL, conversation_id = hash_call(f.conversation_id)
        FROM unnest(p_arrival_ids) AS a (arrival_id)
        WHERE f.arrival_id = a.arrival_id;
        PERFORM apply_facts(v_batches, v_recipients, v_arrivals);
        PERFORM restore_outcomes(v_before);
        UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = ANY (v_batches);
        -- A counter at 0 would still reveal a value that nobody else gave.
        DELETE FROM result_counts AS c WHERE c.batch_key = ANY (v_batches) AND c.recipients = 0;
        DELETE FROM result_totals AS c WHERE c.batch_key = ANY (v_batches) AND c.recipients = 0;
        DELETE FROM call_counts AS c
        WHERE c.batch_key = ANY (v_batches) AND c.name = 'failure_reason' AND c.magnitude = 0;
    END IF;
    -- What is left of them is no longer evidence, nor is what the person who placed them said.
    DELETE FROM unreferenced_events WHERE arrival_id = ANY (p_arrival_ids);
    DELETE FROM assignments WHERE arrival_id = ANY (p_arrival_ids);
    RETURN delete_bodies(p_arrival_ids);
END
$$;

-- The events with a phone that were placed by hand at a recipient with another one, of calls until a time.
CREATE OR REPLACE FUNCTION find_placed_calls(p_phone text, p_until timestamptz) RETURNS bigint[]
LANGUAGE sql STABLE
SET enable_seqscan = off
SET jit = off
AS $$
SELECT find_placed_by_hand(ARRAY(
    SELECT u.arrival_id
    FROM (SELECT DISTINCT b.agent_id FROM assignments AS s JOIN batches AS b ON b.batch_key = s.batch_key) AS g
    CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k
                        WHERE k.agent_id = g.agent_id AND k.phone = p_phone AND k.scanned_at <= p_until OFFSET 0) AS u
    CROSS JOIN LATERAL (SELECT * FROM facts AS k WHERE k.arrival_id = u.arrival_id OFFSET 0) AS f
    JOIN recipients AS r ON r.batch_key = f.batch_key AND r.recipient_no = f.recipient_no
    WHERE r.phone IS DISTINCT FROM p_phone))
$$;

-- Erases a person as the caller of the given events, under the ingest lock: an inbound call that no rule knows may have been
-- placed in a batch, with the person's phone as the number that it was made from. THE rule for from_phone in an erasure:
--
-- - It goes from every fact, past fact and waiting event, and its counters lose these calls.
-- - A recipient that is known only from its calls is the person too, and is erased whole: see erase_recipients(). One of a
--   file is somebody else, who keeps what was said, unless the call was placed there by hand.
-- - Bodies go, and what waited.
CREATE OR REPLACE FUNCTION erase_callers(
    p_arrival_ids bigint[], p_phone_hash bytea, OUT recipients integer, OUT bodies integer
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_batches    bigint[];   -- recipients that are the person, as parallel arrays
    v_recipients integer[];
    v_counted    bigint[];   -- batches that have counted the calls
BEGIN
    bodies := delete_bodies(p_arrival_ids);
    DELETE FROM unattributed WHERE arrival_id = ANY (p_arrival_ids);
    DELETE FROM unreferenced_events WHERE arrival_id = ANY (p_arrival_ids);

    SELECT array_agg(t.batch_key), array_agg(t.recipient_no)
    INTO v_batches, v_recipients
    FROM (
        SELECT DISTINCT f.batch_key, f.recipient_no
        FROM unnest(p_arrival_ids) AS a (arrival_id)
        CROSS JOIN LATERAL (
            SELECT k.batch_key, k.recipient_no FROM facts AS k WHERE k.arrival_id = a.arrival_id
            UNION ALL
            SELECT k.batch_key, k.recipient_no FROM past_facts AS k WHERE k.arrival_id = a.arrival_id
            OFFSET 0
        ) AS f
        JOIN batches AS b ON b.batch_key = f.batch_key
        JOIN recipients AS r ON r.batch_key = f.batch_key AND r.recipient_no = f.recipient_no
        WHERE (NOT b.is_registered OR r.withdrawn_at IS NOT NULL)
          AND NOT EXISTS (SELECT FROM erased_recipients AS k
                          WHERE k.batch_key = f.batch_key AND k.recipient_no = f.recipient_no)
    ) AS t;
    recipients := coalesce(cardinality(v_batches), 0);

    SELECT array_agg(DISTINCT f.batch_key) INTO v_counted
    FROM unnest(p_arrival_ids) AS a (arrival_id)
    CROSS JOIN LATERAL (
        SELECT k.batch_key FROM facts AS k WHERE k.arrival_id = a.arrival_id
        UNION ALL
        SELECT k.batch_key FROM past_facts AS k WHERE k.arrival_id = a.arrival_id
        OFFSET 0
    ) AS f;
    IF v_counted IS NOT NULL THEN
        PERFORM correct_facts(
            array_agg(f.arrival_id), array_agg(f.is_final), array_agg(f.next_retry_at), array_agg(f.occurred_at),
            array_agg(f.started_at), array_agg(f.ended_at), array_agg(f.duration_seconds), array_agg(f.attempt_number),
            array_agg(f.max_attempts), array_agg(NULL::text), array_agg(f.trace_id))
        FROM unnest(p_arrival_ids) AS a (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM facts AS k WHERE k.arrival_id = a.arrival_id OFFSET 0) AS f;
    END IF;
    UPDATE past_facts AS f SET from_phone = NULL FROM unnest(p_arrival_ids) AS a (arrival_id)
    WHERE f.arrival_id = a.arrival_id;
    IF v_batches IS NOT NULL THEN
        bodies := bodies + erase_recipients(v_batches, v_recipients, p_phone_hash);
    END IF;
    -- A counter at 0 would still reveal the phone.
    DELETE FROM call_counts AS c WHERE c.batch_key = ANY (v_counted) AND c.name = 'from_phone' AND c.magnitude = 0;
    bodies := bodies + erase_placed_calls(find_placed_by_hand(p_arrival_ids));
END
$$;

-- Erases the callers of events that came after their erasure, of calls from before it. Under the ingest lock.
CREATE OR REPLACE FUNCTION erase_late_callers(p_arrival_ids bigint[], p_from_phones text[], p_called_at timestamptz[])
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM erase_callers(t.arrivals, t.phone_hash)
    FROM (
        SELECT e.phone_hash, array_agg(c.arrival_id) AS arrivals
        FROM hash_phones(ARRAY(SELECT DISTINCT p FROM unnest(p_from_phones) AS p WHERE p IS NOT NULL)) AS h
        JOIN erased_phones AS e ON e.phone_hash = h.phone_hash
        JOIN unnest(p_arrival_ids, p_from_phones, p_called_at) AS c (arrival_id, from_phone, called_at)
            ON c.from_phone = h.phone AND c.called_at <= e.erased_at
        WHERE c.arrival_id IS NOT NULL
        GROUP BY e.phone_hash
    ) AS t;
END
$$;
