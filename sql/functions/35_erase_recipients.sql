-- Erases the person of the given recipients, under the ingest lock. They still count, by the outcome, time and duration of
-- their calls. What was said, why a call failed, phone, parameters and the raw bodies are deleted; the conversation's id
-- becomes a keyed hash. Their results leave the counters. A reader of the feed sees the recipient as erased.
-- Returns how many bodies were deleted.
CREATE OR REPLACE FUNCTION erase_recipients(p_batch_keys bigint[], p_recipient_nos integer[], p_phone_hash bytea)
RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_arrivals bigint[];
    v_bodies   integer;
    v_called_batches    bigint[];  -- a recipient for each of these facts
    v_called_recipients integer[];
    v_versions jsonb;
    v_batches  bigint[];  -- of their result values: batch, name and value as parallel arrays
    v_names    text[];
    v_values   text[];
BEGIN
    SELECT coalesce(array_agg(f.arrival_id), '{}'), array_agg(t.batch_key), array_agg(t.recipient_no)
    INTO v_arrivals, v_called_batches, v_called_recipients
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    CROSS JOIN LATERAL (SELECT arrival_id FROM facts WHERE facts.batch_key = t.batch_key
                        AND facts.recipient_no = t.recipient_no OFFSET 0) AS f;
    v_bodies := delete_bodies(v_arrivals || ARRAY(
        SELECT f.arrival_id
        FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
        CROSS JOIN LATERAL (SELECT arrival_id FROM past_facts WHERE past_facts.batch_key = t.batch_key
                            AND past_facts.recipient_no = t.recipient_no OFFSET 0) AS f));

    SELECT array_agg(f.batch_key), array_agg(v.name), array_agg(v.value)
    INTO v_batches, v_names, v_values
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    CROSS JOIN LATERAL (
        SELECT batch_key, results FROM facts
        WHERE facts.batch_key = t.batch_key AND facts.recipient_no = t.recipient_no
        UNION ALL
        SELECT batch_key, results FROM past_facts
        WHERE past_facts.batch_key = t.batch_key AND past_facts.recipient_no = t.recipient_no
        OFFSET 0
    ) AS f
    CROSS JOIN LATERAL result_values(f.results) AS v;

    -- Subtracts what they count for, and adds what is left of it: all counters stay equal to a recount.
    PERFORM apply_facts(p_batch_keys, p_recipient_nos, NULL);
    WITH gone AS (
        DELETE FROM outcomes AS o
        USING unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
        WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no AND o.attempts > 0
        RETURNING o.batch_key, o.recipient_no, o.version
    )
    SELECT jsonb_agg(to_jsonb(gone)) INTO v_versions FROM gone;
    UPDATE facts AS f
    SET results = 'null', failure_reason = NULL, trace_id = NULL, conversation_id = hash_call(f.conversation_id)
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no;
    UPDATE past_facts AS f
    SET results = 'null', failure_reason = NULL, trace_id = NULL, conversation_id = hash_call(f.conversation_id)
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no;
    UPDATE recipients AS r
    SET phone = NULL, parameters = '{}'
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE r.batch_key = t.batch_key AND r.recipient_no = t.recipient_no;
    DELETE FROM callback_marks AS m
    USING unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE m.batch_key = t.batch_key AND m.recipient_no = t.recipient_no;
    -- What is left of their events is no longer evidence of where they belong: they stay where they are.
    DELETE FROM unreferenced_events WHERE arrival_id = ANY (v_arrivals);
    DELETE FROM reference_contradictions AS x
    USING unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE x.batch_key = t.batch_key AND x.recipient_no = t.recipient_no;
    INSERT INTO erased_recipients (batch_key, recipient_no, phone_hash)
    SELECT t.batch_key, t.recipient_no, p_phone_hash
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    ON CONFLICT (batch_key, recipient_no) DO NOTHING;
    PERFORM apply_facts(v_called_batches, v_called_recipients, v_arrivals);
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = ANY (p_batch_keys);

    -- A counter at 0 would still reveal a value that nobody else gave.
    DELETE FROM result_counts AS c
    USING unnest(v_batches, v_names, v_values) AS v (batch_key, name, value)
    WHERE c.batch_key = v.batch_key AND c.name = v.name AND c.value = v.value AND c.recipients = 0;
    DELETE FROM result_totals AS c
    USING unnest(v_batches, v_names) AS v (batch_key, name)
    WHERE c.batch_key = v.batch_key AND c.name = v.name AND c.recipients = 0;
    DELETE FROM call_counts AS c
    WHERE c.batch_key = ANY (p_batch_keys) AND c.name = 'failure_reason' AND c.magnitude = 0;

    UPDATE outcomes AS o
    SET state = 'erased', version = v.version + 1
    FROM jsonb_to_recordset(v_versions) AS v (batch_key bigint, recipient_no integer, version integer)
    WHERE o.batch_key = v.batch_key AND o.recipient_no = v.recipient_no;
    -- Those without facts, whose calls all turned out to be others', have an outcome too if readers have seen them.
    UPDATE outcomes AS o
    SET state = 'erased', position = nextval('feed_positions'), version = o.version + 1, changed_at = clock_timestamp()
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no AND o.attempts = 0;
    RETURN v_bodies;
END
$$;
