-- Takes facts from their recipients, under the ingest lock. What they count for leaves the counters, and their events are
-- unattributed again. The facts are kept in past_facts, for answers as of an earlier time. A recipient left without facts
-- is in progress again, with a new entry in the feed.
CREATE OR REPLACE FUNCTION take_facts(p_arrival_ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now        CONSTANT timestamptz := clock_timestamp();
    v_batches    bigint[];
    v_recipients integer[];
    v_versions   jsonb;
    v_kept_batches    bigint[];
    v_kept_recipients integer[];
    v_kept       bigint[];
BEGIN
    SELECT array_agg(t.batch_key), array_agg(t.recipient_no) INTO v_batches, v_recipients
    FROM (
        SELECT DISTINCT f.batch_key, f.recipient_no
        FROM unnest(p_arrival_ids) AS a (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = a.arrival_id OFFSET 0) AS f
    ) AS t;
    IF v_batches IS NULL THEN
        RETURN;
    END IF;
    PERFORM apply_facts(v_batches, v_recipients, NULL);
    WITH gone AS (
        DELETE FROM outcomes AS o
        USING unnest(v_batches, v_recipients) AS t (batch_key, recipient_no)
        WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no
        RETURNING o.batch_key, o.recipient_no, o.version
    )
    SELECT jsonb_agg(to_jsonb(gone)) INTO v_versions FROM gone;

    UPDATE outstanding_details AS d SET batch_key = NULL WHERE d.arrival_id = ANY (p_arrival_ids);
    PERFORM add_evidence(p_arrival_ids, NULL);  -- for facts that were stored without it
    WITH taken AS (
        DELETE FROM facts AS f
        USING unnest(v_batches, v_recipients) AS t (batch_key, recipient_no)
        WHERE f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no AND f.arrival_id = ANY (p_arrival_ids)
        RETURNING f.*
    ), past AS (
        INSERT INTO past_facts (
            batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
            occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method,
            recorded_at, from_phone, trace_id, withdrawn_at)
        SELECT
            batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
            occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method,
            recorded_at, from_phone, trace_id, v_now
        FROM taken
    )
    INSERT INTO unattributed (
        arrival_id, event_id, agent_id, phone, reason, received_at, source, conversation_id, attempt_number, max_attempts,
        status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds, failure_reason, results,
        from_phone, trace_id)
    SELECT f.arrival_id, f.event_id, b.agent_id, coalesce(u.phone, r.phone), 'no_batch', e.received_at, f.source,
           f.conversation_id, f.attempt_number, f.max_attempts, f.status, f.is_final, f.next_retry_at, f.occurred_at,
           f.started_at, f.ended_at, f.duration_seconds, f.failure_reason, f.results, f.from_phone, f.trace_id
    FROM taken AS f
    CROSS JOIN LATERAL (SELECT agent_id FROM batches WHERE batches.batch_key = f.batch_key OFFSET 0) AS b
    CROSS JOIN LATERAL (SELECT phone FROM recipients AS k WHERE k.batch_key = f.batch_key
                        AND k.recipient_no = f.recipient_no OFFSET 0) AS r
    LEFT JOIN LATERAL (SELECT phone FROM unreferenced_events AS k WHERE k.arrival_id = f.arrival_id OFFSET 0) AS u ON true
    CROSS JOIN LATERAL find_arrival(f.event_id, f.occurred_at, f.arrival_id) AS e;

    SELECT array_agg(f.batch_key), array_agg(f.recipient_no), array_agg(f.arrival_id)
    INTO v_kept_batches, v_kept_recipients, v_kept
    FROM unnest(v_batches, v_recipients) AS t (batch_key, recipient_no)
    CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.batch_key = t.batch_key
                        AND facts.recipient_no = t.recipient_no OFFSET 0) AS f;
    IF v_kept IS NOT NULL THEN
        PERFORM apply_facts(v_kept_batches, v_kept_recipients, v_kept);
    END IF;
    INSERT INTO outcomes AS o (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
    SELECT v.batch_key, v.recipient_no, 'in_progress', 0, 0, nextval('feed_positions'), v.version + 1, v_now
    FROM jsonb_to_recordset(v_versions) AS v (batch_key bigint, recipient_no integer, version integer)
    ON CONFLICT (batch_key, recipient_no) DO UPDATE
    SET state = shown_state(o.batch_key, o.recipient_no, o.state), version = excluded.version;
    UPDATE batch_activity AS a
    SET revision = a.revision + 1,
        -- It changes only when the latest call leaves.
        last_call_at = CASE
            WHEN a.last_call_at > (SELECT max(u.called_at) FROM unreferenced_events AS u
                                   WHERE u.arrival_id = ANY (p_arrival_ids))
                THEN a.last_call_at
            ELSE (SELECT max(coalesce(f.started_at, f.ended_at, f.occurred_at)) FROM facts AS f
                  WHERE f.batch_key = a.batch_key)
        END
    WHERE a.batch_key = ANY (v_batches);
END
$$;
