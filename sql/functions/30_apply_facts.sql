-- Brings outcomes, counters and feed positions up to date after facts were added. Called by ingest(), under its lock.
-- Every counter moves by what the recipients count for now, less what they counted for without the new facts.
CREATE OR REPLACE FUNCTION apply_facts(p_batch_keys bigint[], p_recipient_nos integer[], p_arrival_ids bigint[])
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_batch_keys       bigint[];
    v_recipient_nos    integer[];
    v_known_batches    bigint[];
    v_known_recipients integer[];
BEGIN
    SELECT array_agg(t.batch_key), array_agg(t.recipient_no),
           array_agg(t.batch_key) FILTER (WHERE o.known), array_agg(t.recipient_no) FILTER (WHERE o.known)
    INTO v_batch_keys, v_recipient_nos, v_known_batches, v_known_recipients
    FROM (SELECT DISTINCT * FROM unnest(p_batch_keys, p_recipient_nos)) AS t (batch_key, recipient_no)
    LEFT JOIN LATERAL (
        SELECT true AS known
        FROM outcomes
        WHERE outcomes.batch_key = t.batch_key AND outcomes.recipient_no = t.recipient_no
        OFFSET 0
    ) AS o ON true;

    WITH sides AS MATERIALIZED (
        SELECT 1 AS sign, a.* FROM attempts_of(v_batch_keys, v_recipient_nos, NULL) AS a
        UNION ALL
        SELECT -1, a.* FROM attempts_of(v_known_batches, v_known_recipients, p_arrival_ids) AS a
    ), latest AS MATERIALIZED (
        SELECT DISTINCT ON (batch_key, recipient_no, sign)
               *, count(*) OVER (PARTITION BY batch_key, recipient_no, sign)::integer AS attempts
        FROM sides
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
    )
    -- A change that changes nothing that a reader sees takes no position, though it may name another fact.
    INSERT INTO outcomes AS o (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
    SELECT n.batch_key, n.recipient_no, n.state, n.attempts, n.arrival_id,
           CASE WHEN was.batch_key IS NULL
                  OR (was.state, was.status, was.attempts, was.duration_seconds, was.results, was.failure_reason,
                      was.next_retry_at, was.called_at, was.conversation_id, was.source)
                     IS DISTINCT FROM
                     (n.state, n.status, n.attempts, n.duration_seconds, n.results, n.failure_reason,
                      n.next_retry_at, n.called_at, n.conversation_id, n.source)
                THEN nextval('feed_positions') ELSE 0 END,
           1, clock_timestamp()
    FROM latest AS n
    LEFT JOIN latest AS was
        ON was.sign = -1 AND was.batch_key = n.batch_key AND was.recipient_no = n.recipient_no
    WHERE n.sign = 1
    ON CONFLICT (batch_key, recipient_no) DO UPDATE
    SET state = excluded.state,
        attempts = excluded.attempts,
        arrival_id = excluded.arrival_id,
        position = coalesce(nullif(excluded.position, 0), o.position),
        version = o.version + (excluded.position > 0)::integer,
        changed_at = CASE WHEN excluded.position > 0 THEN excluded.changed_at ELSE o.changed_at END
    WHERE (o.arrival_id, o.attempts) IS DISTINCT FROM (excluded.arrival_id, excluded.attempts);
END
$$;
