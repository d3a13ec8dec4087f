-- A recount of a batch, in steps of so many recipients. A temporary table collects what its counters should be, so memory
-- does not grow with the batch. All steps run in one repeatable-read transaction, and so see facts and counters of one
-- instant, however many webhooks arrive while it runs.
CREATE OR REPLACE FUNCTION begin_recount() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    CREATE TEMPORARY TABLE recounted (
        counter text, a text COLLATE "C", b text COLLATE "C", c text, recipients bigint, talked bigint, talk_seconds bigint,
        PRIMARY KEY (counter, a, b, c)
    ) ON COMMIT DROP;
END
$$;

-- Recounts the recipients after p_after; returns those whose outcome differs from their facts. With p_as_of it recounts
-- what was known at that time, and returns nothing, because no outcomes of that time are stored.
CREATE OR REPLACE FUNCTION recount_step(p_batch_key bigint, p_after integer, p_limit integer, p_as_of timestamptz)
RETURNS TABLE (recipient_no integer, stored text, recounted text)
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_keys bigint[];
    v_nos  integer[];
    v_goal       jsonb;    -- the rule that is counted
    v_counted_to integer;  -- up to which recipient
BEGIN
    IF p_as_of IS NULL THEN
        SELECT g.rule, c.counted_to INTO v_goal, v_counted_to
        FROM goal_counts AS c JOIN agent_goals AS g ON g.goal_id = c.goal_id
        WHERE c.batch_key = p_batch_key;
    ELSE
        SELECT g.rule, 2147483647 INTO v_goal, v_counted_to
        FROM find_goal_as_of(p_batch_key, p_as_of) AS g;
    END IF;
    SELECT array_agg(p_batch_key), array_agg(n) INTO v_keys, v_nos
    FROM generate_series(p_after + 1, p_after + p_limit) AS n;

    RETURN QUERY
    WITH attempts AS MATERIALIZED (
        SELECT * FROM attempts_of(CASE WHEN p_as_of IS NULL THEN v_keys END, v_nos, NULL)
        UNION ALL
        SELECT * FROM attempts_as_of(CASE WHEN p_as_of IS NOT NULL THEN v_keys END, v_nos, p_as_of)
    ), latest AS MATERIALIZED (
        SELECT DISTINCT ON (a.recipient_no)
               a.*, (count(*) OVER (PARTITION BY a.recipient_no))::integer AS attempts
        FROM attempts AS a
        ORDER BY a.recipient_no, a.attempt_order DESC, a.called_at DESC NULLS LAST, a.conversation_id DESC
    ), results AS MATERIALIZED (
        SELECT v.name, v.value, count(*) AS recipients
        FROM latest AS l CROSS JOIN LATERAL result_values(l.results) AS v
        GROUP BY 1, 2
    ), calls AS MATERIALIZED (
        SELECT v.name, v.value, count(*) AS attempts, count(*) FILTER (WHERE a.status = 'completed') AS connects
        FROM attempts AS a CROSS JOIN LATERAL call_values(a.from_phone, a.failure_reason) AS v
        WHERE p_as_of IS NOT NULL OR coalesce(
            a.recipient_no <= (SELECT u.counted_to FROM uncounted_calls AS u WHERE u.batch_key = p_batch_key), true)
        GROUP BY v.name, ROLLUP (v.value)
    ), counted AS (
        INSERT INTO recounted AS r
        SELECT 'outcome_counts', l.state, l.attempts::text, l.source, count(*), count(l.duration_seconds),
               coalesce(sum(l.duration_seconds), 0)
        FROM latest AS l
        GROUP BY 2, 3, 4
        UNION ALL
        SELECT 'result_counts', v.name, v.value, '', v.recipients, 0, 0 FROM results AS v
        UNION ALL
        SELECT 'result_totals', v.name, '', '', sum(v.recipients), 0, 0 FROM results AS v GROUP BY 2
        UNION ALL
        SELECT 'attempt_counts', attempt_slot(a.called_at)::text, a.status, '', count(*), 0, 0
        FROM attempts AS a
        GROUP BY 2, 3
        UNION ALL
        SELECT 'call_counts', c.name, coalesce(c.value, ''), '', c.attempts, c.connects, 0 FROM calls AS c
        UNION ALL
        SELECT 'contact_counts', '', '', '', count(DISTINCT a.recipient_no), count(*), 0
        FROM attempts AS a
        WHERE a.status = 'completed'
        HAVING count(*) > 0
        UNION ALL
        SELECT 'goal_counts', '', '', '', count(*), 0, 0
        FROM latest AS l
        WHERE l.recipient_no <= v_counted_to AND meets_goal(l.results, v_goal)
        HAVING count(*) > 0
        UNION ALL
        SELECT 'talk_time_counts', talk_time_slot(l.duration_seconds)::text, '', '', count(*), 0, 0
        FROM latest AS l
        WHERE l.state = 'completed' AND l.duration_seconds IS NOT NULL
        GROUP BY 2
        UNION ALL
        SELECT 'retry_counts', retry_slot(l.next_retry_at)::text, '', '', count(*), 0, 0
        FROM latest AS l
        WHERE l.state = 'pending_retry'
        GROUP BY 2
        ON CONFLICT (counter, a, b, c) DO UPDATE
        SET recipients = r.recipients + excluded.recipients,
            talked = r.talked + excluded.talked,
            talk_seconds = r.talk_seconds + excluded.talk_seconds
    )
    SELECT coalesce(s.recipient_no, t.recipient_no), s.shown, t.shown
    FROM (
        SELECT o.recipient_no, concat_ws(' ', o.state, o.attempts, o.arrival_id) AS shown
        FROM outcomes AS o
        WHERE o.batch_key = p_batch_key AND o.recipient_no > p_after AND o.recipient_no <= p_after + p_limit
          AND o.attempts > 0
    ) AS s
    FULL JOIN (
        SELECT l.recipient_no, concat_ws(' ', shown_state(p_batch_key, l.recipient_no, l.state), l.attempts, l.arrival_id) AS shown
        FROM latest AS l
    ) AS t ON t.recipient_no = s.recipient_no
    WHERE p_as_of IS NULL AND s.shown IS DISTINCT FROM t.shown;
END
$$;

-- After all steps: the counters that differ from the recount, with what must be added to each.
CREATE OR REPLACE FUNCTION list_counter_errors(p_batch_key bigint)
RETURNS TABLE (
    counter text, a text, b text, c text, stored text, recounted text, recipients bigint, talked bigint,
    talk_seconds bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH stored AS (
        SELECT 'outcome_counts' AS counter, state AS a, attempts::text AS b, source AS c, recipients, talked, talk_seconds
        FROM outcome_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'result_counts', name, value, '', recipients, 0, 0 FROM result_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'result_totals', name, '', '', recipients, 0, 0 FROM result_totals WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'attempt_counts', slot::text, status, '', attempts, 0, 0 FROM attempt_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'call_counts', name, value, '', attempts, connects, 0 FROM call_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'contact_counts', '', '', '', recipients, connects, 0 FROM contact_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'goal_counts', '', '', '', recipients, 0, 0 FROM goal_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'talk_time_counts', from_seconds::text, '', '', recipients, 0, 0
        FROM talk_time_counts WHERE batch_key = p_batch_key
        UNION ALL
        SELECT 'retry_counts', due_at::text, '', '', recipients, 0, 0 FROM retry_counts WHERE batch_key = p_batch_key
    ), compared AS (
        SELECT counter, a, b, c,
               coalesce(s.recipients, 0) AS s1, coalesce(s.talked, 0) AS s2, coalesce(s.talk_seconds, 0) AS s3,
               coalesce(r.recipients, 0) AS r1, coalesce(r.talked, 0) AS r2, coalesce(r.talk_seconds, 0) AS r3
        FROM stored AS s
        FULL JOIN recounted AS r USING (counter, a, b, c)
    )
    SELECT counter, a, b, c, concat_ws(' ', s1, s2, s3), concat_ws(' ', r1, r2, r3), r1 - s1, r2 - s2, r3 - s3
    FROM compared
    WHERE (s1, s2, s3) <> (r1, r2, r3)
    ORDER BY 1, 2, 3, 4;
END
$$;

-- After all steps: everything that was counted.
CREATE OR REPLACE FUNCTION list_recounted()
RETURNS TABLE (counter text, a text, b text, c text, recipients bigint, talked bigint, talk_seconds bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY SELECT * FROM recounted;
END
$$;
