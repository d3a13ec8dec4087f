-- Brings outcomes, counters and feed positions up to date after facts were added. Called by ingest(), under its lock.
-- Plans are made once and live long, perhaps since the tables were empty, so they may only use look-ups by key.
-- Every counter changes by what the recipients count for now, minus what they counted for without the new facts.
-- p_arrival_ids NULL: the recipients are about to be withdrawn, and no longer count.
CREATE OR REPLACE FUNCTION apply_facts(p_batch_keys bigint[], p_recipient_nos integer[], p_arrival_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_batch_keys       bigint[];
    v_recipient_nos    integer[];
    v_known_batches    bigint[];
    v_known_recipients integer[];
    v_uncounted        jsonb;  -- of batches in uncounted_calls: up to which recipient their calls are counted
    v_goals            jsonb;  -- what counted_goal() returns for each batch; null while no agent has a goal
    v_empty            jsonb;  -- recipients without facts whose facts were taken: their outcomes start over
BEGIN
    SELECT array_agg(t.batch_key), array_agg(t.recipient_no),
           array_agg(t.batch_key) FILTER (WHERE o.attempts > 0), array_agg(t.recipient_no) FILTER (WHERE o.attempts > 0),
           jsonb_agg(to_jsonb(o)) FILTER (WHERE o.attempts = 0)
    INTO v_batch_keys, v_recipient_nos, v_known_batches, v_known_recipients, v_empty
    FROM (SELECT DISTINCT * FROM unnest(p_batch_keys, p_recipient_nos)) AS t (batch_key, recipient_no)
    LEFT JOIN LATERAL (
        SELECT batch_key, recipient_no, attempts, version
        FROM outcomes
        WHERE outcomes.batch_key = t.batch_key AND outcomes.recipient_no = t.recipient_no
        OFFSET 0
    ) AS o ON true;
    IF v_empty IS NOT NULL AND p_arrival_ids IS NOT NULL THEN
        DELETE FROM outcomes AS o
        USING jsonb_to_recordset(v_empty) AS v (batch_key bigint, recipient_no integer)
        WHERE o.batch_key = v.batch_key AND o.recipient_no = v.recipient_no;
    END IF;

    IF EXISTS (SELECT FROM uncounted_calls) THEN
        SELECT jsonb_object_agg(u.batch_key, u.counted_to)
        INTO v_uncounted
        FROM (SELECT DISTINCT k.batch_key FROM unnest(v_batch_keys) AS k (batch_key)) AS t
        CROSS JOIN LATERAL (SELECT * FROM uncounted_calls AS k WHERE k.batch_key = t.batch_key OFFSET 0) AS u;
    END IF;

    IF EXISTS (SELECT FROM agent_goals) THEN
        SELECT jsonb_agg(to_jsonb(g))
        INTO v_goals
        FROM (SELECT DISTINCT k.batch_key FROM unnest(v_batch_keys) AS k (batch_key)) AS t
        CROSS JOIN LATERAL counted_goal(t.batch_key) AS g;
    END IF;

    WITH sides AS MATERIALIZED (
        SELECT 1 AS sign, a.*
        FROM attempts_of(CASE WHEN p_arrival_ids IS NOT NULL THEN v_batch_keys END, v_recipient_nos, NULL) AS a
        UNION ALL
        SELECT -1, a.* FROM attempts_of(v_known_batches, v_known_recipients, p_arrival_ids) AS a
    ), latest AS MATERIALIZED (
        SELECT DISTINCT ON (batch_key, recipient_no, sign)
               *, (count(*) OVER everything)::integer AS attempts,
               count(*) FILTER (WHERE status = 'completed') OVER everything AS connects
        FROM sides
        WINDOW everything AS (
            PARTITION BY batch_key, recipient_no, sign
            ORDER BY attempt_order DESC, called_at DESC NULLS LAST, conversation_id DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)  -- as sorted below, so one sort serves both
        ORDER BY batch_key, recipient_no, sign, attempt_order DESC, called_at DESC NULLS LAST, conversation_id DESC
    ), count_outcomes AS (
        INSERT INTO outcome_counts AS c (batch_key, state, attempts, source, recipients, talked, talk_seconds)
        SELECT batch_key, state, attempts, source, sum(sign), coalesce(sum(sign) FILTER (WHERE duration_seconds IS NOT NULL), 0),
               coalesce(sum(sign * duration_seconds), 0)
        FROM latest
        GROUP BY batch_key, state, attempts, source
        ON CONFLICT (batch_key, state, attempts, source) DO UPDATE
        SET recipients = c.recipients + excluded.recipients,
            talked = c.talked + excluded.talked,
            talk_seconds = c.talk_seconds + excluded.talk_seconds
    ), results AS MATERIALIZED (
        SELECT l.batch_key, v.name, v.value, sum(l.sign) AS recipients
        FROM latest AS l
        CROSS JOIN LATERAL result_values(l.results) AS v
        GROUP BY l.batch_key, v.name, v.value
    ), count_result_totals AS (
        INSERT INTO result_totals AS c (batch_key, name, recipients)
        SELECT batch_key, name, sum(recipients)
        FROM results
        GROUP BY batch_key, name
        HAVING sum(recipients) <> 0
        ON CONFLICT (batch_key, name) DO UPDATE SET recipients = c.recipients + excluded.recipients
    ), count_results AS (
        INSERT INTO result_counts AS c (batch_key, name, value, recipients)
        SELECT batch_key, name, value, recipients
        FROM results
        WHERE recipients <> 0
        ON CONFLICT (batch_key, name, value) DO UPDATE SET recipients = c.recipients + excluded.recipients
    ), count_attempts AS (
        INSERT INTO attempt_counts AS c (batch_key, slot, status, attempts)
        SELECT batch_key, attempt_slot(called_at), status, sum(sign)
        FROM sides
        GROUP BY 1, 2, 3
        HAVING sum(sign) <> 0
        ON CONFLICT (batch_key, slot, status) DO UPDATE SET attempts = c.attempts + excluded.attempts
    ), count_calls AS (
        INSERT INTO call_counts AS c (batch_key, name, value, attempts, connects)
        SELECT s.batch_key, v.name, coalesce(v.value, ''), sum(s.sign),
               coalesce(sum(s.sign) FILTER (WHERE s.status = 'completed'), 0)
        FROM sides AS s
        CROSS JOIN LATERAL call_values(s.from_phone, s.failure_reason) AS v
        WHERE v_uncounted IS NULL OR coalesce(s.recipient_no <= (v_uncounted ->> s.batch_key::text)::integer, true)
        GROUP BY s.batch_key, v.name, ROLLUP (v.value)
        HAVING sum(s.sign) <> 0 OR sum(s.sign) FILTER (WHERE s.status = 'completed') <> 0
        ON CONFLICT (batch_key, name, value) DO UPDATE
        SET attempts = c.attempts + excluded.attempts, connects = c.connects + excluded.connects
    ), count_talk_times AS (
        INSERT INTO talk_time_counts AS c (batch_key, from_seconds, recipients)
        SELECT batch_key, talk_time_slot(duration_seconds), sum(sign)
        FROM latest
        WHERE state = 'completed' AND duration_seconds IS NOT NULL
        GROUP BY 1, 2
        HAVING sum(sign) <> 0
        ON CONFLICT (batch_key, from_seconds) DO UPDATE SET recipients = c.recipients + excluded.recipients
    ), count_contacts AS (
        INSERT INTO contact_counts AS c (batch_key, recipients, connects)
        SELECT batch_key, coalesce(sum(sign) FILTER (WHERE connects > 0), 0), sum(sign * connects)
        FROM latest
        GROUP BY batch_key
        ON CONFLICT (batch_key) DO UPDATE
        SET recipients = c.recipients + excluded.recipients, connects = c.connects + excluded.connects
    ), count_goals AS (
        INSERT INTO goal_counts AS c (batch_key, goal_id, counted_to, recipients)
        SELECT g.batch_key, g.goal_id, g.counted_to, coalesce(sum(l.sign) FILTER (
                   WHERE l.recipient_no <= g.counted_to AND meets_goal(l.results, g.rule)), 0)
        FROM jsonb_to_recordset(v_goals) AS g (batch_key bigint, goal_id bigint, rule jsonb, counted_to integer, is_new boolean)
        JOIN latest AS l ON l.batch_key = g.batch_key
        GROUP BY g.batch_key, g.goal_id, g.counted_to, g.is_new
        HAVING g.is_new OR sum(l.sign) FILTER (WHERE l.recipient_no <= g.counted_to AND meets_goal(l.results, g.rule)) <> 0
        ON CONFLICT (batch_key) DO UPDATE SET recipients = c.recipients + excluded.recipients
    ), count_retries AS (
        INSERT INTO retry_counts AS c (batch_key, due_at, recipients)
        SELECT batch_key, retry_slot(next_retry_at), sum(sign)
        FROM latest
        WHERE state = 'pending_retry'
        GROUP BY 1, 2
        HAVING sum(sign) <> 0
        ON CONFLICT (batch_key, due_at) DO UPDATE SET recipients = c.recipients + excluded.recipients
    ), changes AS MATERIALIZED (
        -- A change that no reader can see takes no position, although it may name another fact.
        SELECT n.batch_key, n.recipient_no, n.state, n.attempts, n.arrival_id,
               n.was IS NULL AS is_first, n.visible IS DISTINCT FROM n.was AS is_visible
        FROM (
            SELECT v.*, lag(v.visible) OVER (PARTITION BY v.batch_key, v.recipient_no ORDER BY v.sign) AS was
            FROM (
                SELECT l.*, ROW (l.state, l.status, l.attempts, l.duration_seconds, l.results, l.failure_reason,
                                 l.next_retry_at, l.called_at, l.conversation_id, l.source)::visible_outcome AS visible
                FROM latest AS l
            ) AS v
        ) AS n
        WHERE n.sign = 1
    ), change_outcomes AS (
        -- All rows conflict: this is an update that finds its rows by key, whatever the planner estimates.
        INSERT INTO outcomes AS o (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
        SELECT batch_key, recipient_no, state, attempts, arrival_id,
               CASE WHEN is_visible THEN nextval('feed_positions') ELSE 0 END, 1, clock_timestamp()
        FROM changes
        WHERE NOT is_first
        ON CONFLICT (batch_key, recipient_no) DO UPDATE
        SET state = excluded.state,
            attempts = excluded.attempts,
            arrival_id = excluded.arrival_id,
            position = coalesce(nullif(excluded.position, 0), o.position),
            version = o.version + (excluded.position > 0)::integer,
            changed_at = CASE WHEN excluded.position > 0 THEN excluded.changed_at ELSE o.changed_at END
        WHERE excluded.position > 0 OR o.arrival_id <> excluded.arrival_id
    )
    INSERT INTO outcomes (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
    SELECT batch_key, recipient_no, state, attempts, arrival_id, nextval('feed_positions'), 1, clock_timestamp()
    FROM changes
    WHERE is_first;

    IF v_empty IS NOT NULL AND p_arrival_ids IS NOT NULL THEN
        UPDATE outcomes AS o
        SET version = v.version + 1
        FROM jsonb_to_recordset(v_empty) AS v (batch_key bigint, recipient_no integer, version integer)
        WHERE o.batch_key = v.batch_key AND o.recipient_no = v.recipient_no;
    END IF;

    IF EXISTS (SELECT FROM agent_callbacks) THEN
        PERFORM set_callbacks(v_batch_keys, v_recipient_nos, p_arrival_ids IS NULL);
    END IF;
END
$$;
