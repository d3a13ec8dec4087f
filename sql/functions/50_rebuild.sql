-- Rebuilding, online. Why it is correct although webhooks keep coming:
--
-- 1. Outcomes are repaired range by range under the ingest lock: from then on a recipient's outcome matches its facts, and
--    ingest keeps it so.
-- 2. The counters' errors are then found by a recount of one instant, without any lock. Every ingest changes a counter by
--    what its facts change, whatever the counter was, so an error stays the same until it is corrected.
-- 3. The errors are corrected under the lock, in one commit. Two concurrent rebuilds would correct them twice: a lock
--    (lock_rebuild) keeps them apart, and ends with a session that is killed.
DROP FUNCTION IF EXISTS mend_outcomes(bigint, integer, integer);
DROP FUNCTION IF EXISTS mend_counters(bigint, text[], text[], text[], text[], bigint[], bigint[], bigint[]);
CREATE OR REPLACE FUNCTION rebuild_outcomes(p_batch_key bigint, p_after integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    v_keys    bigint[];
    v_nos     integer[];
    v_written bigint;
    v_removed bigint;
BEGIN
    PERFORM lock_ingest();
    SELECT array_agg(p_batch_key), array_agg(n) INTO v_keys, v_nos
    FROM generate_series(p_after + 1, p_after + p_limit) AS n;
    WITH written AS (
        INSERT INTO outcomes AS o (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
        SELECT t.batch_key, t.recipient_no, s.state, t.attempts, t.arrival_id, nextval('feed_positions'), 1,
               clock_timestamp()
        FROM outcomes_of(v_keys, v_nos) AS t
        CROSS JOIN LATERAL shown_state(t.batch_key, t.recipient_no, t.state) AS s (state)
        WHERE NOT EXISTS (
            SELECT FROM outcomes AS k
            WHERE k.batch_key = t.batch_key AND k.recipient_no = t.recipient_no
              AND (k.state, k.attempts, k.arrival_id) = (s.state, t.attempts, t.arrival_id))
        ON CONFLICT (batch_key, recipient_no) DO UPDATE
        SET state = excluded.state, attempts = excluded.attempts, arrival_id = excluded.arrival_id,
            position = excluded.position, version = o.version + 1, changed_at = excluded.changed_at
        RETURNING 1
    )
    SELECT count(*) INTO v_written FROM written;
    WITH removed AS (
        DELETE FROM outcomes AS o
        WHERE o.batch_key = p_batch_key AND o.recipient_no > p_after AND o.recipient_no <= p_after + p_limit
          AND o.attempts > 0
          AND NOT EXISTS (SELECT FROM facts AS f WHERE f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no)
        RETURNING 1
    )
    SELECT count(*) INTO v_removed FROM removed;
    PERFORM set_callbacks(v_keys, v_nos, false);
    RETURN v_written + v_removed;
END
$$;

CREATE OR REPLACE FUNCTION rebuild_counters(
    p_batch_key bigint, p_counters text[], p_a text[], p_b text[], p_c text[], p_recipients bigint[], p_talked bigint[],
    p_talk_seconds bigint[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lock_ingest();
    INSERT INTO outcome_counts AS k (batch_key, state, attempts, source, recipients, talked, talk_seconds)
    SELECT p_batch_key, e.a, e.b::integer, e.c, e.recipients, e.talked, e.talk_seconds
    FROM unnest(p_counters, p_a, p_b, p_c, p_recipients, p_talked, p_talk_seconds)
        AS e (counter, a, b, c, recipients, talked, talk_seconds)
    WHERE e.counter = 'outcome_counts'
    ON CONFLICT (batch_key, state, attempts, source) DO UPDATE
    SET recipients = k.recipients + excluded.recipients, talked = k.talked + excluded.talked,
        talk_seconds = k.talk_seconds + excluded.talk_seconds;
    INSERT INTO result_counts AS k (batch_key, name, value, recipients)
    SELECT p_batch_key, e.a, e.b, e.recipients
    FROM unnest(p_counters, p_a, p_b, p_recipients) AS e (counter, a, b, recipients)
    WHERE e.counter = 'result_counts'
    ON CONFLICT (batch_key, name, value) DO UPDATE SET recipients = k.recipients + excluded.recipients;
    INSERT INTO result_totals AS k (batch_key, name, recipients)
    SELECT p_batch_key, e.a, e.recipients
    FROM unnest(p_counters, p_a, p_recipients) AS e (counter, a, recipients)
    WHERE e.counter = 'result_totals'
    ON CONFLICT (batch_key, name) DO UPDATE SET recipients = k.recipients + excluded.recipients;
    INSERT INTO attempt_counts AS k (batch_key, slot, status, attempts)
    SELECT p_batch_key, e.a::timestamptz, e.b, e.recipients
    FROM unnest(p_counters, p_a, p_b, p_recipients) AS e (counter, a, b, recipients)
    WHERE e.counter = 'attempt_counts'
    ON CONFLICT (batch_key, slot, status) DO UPDATE SET attempts = k.attempts + excluded.attempts;
    INSERT INTO call_counts AS k (batch_key, name, value, attempts, connects)
    SELECT p_batch_key, e.a, e.b, e.recipients, e.connects
    FROM unnest(p_counters, p_a, p_b, p_recipients, p_talked) AS e (counter, a, b, recipients, connects)
    WHERE e.counter = 'call_counts'
    ON CONFLICT (batch_key, name, value) DO UPDATE
    SET attempts = k.attempts + excluded.attempts, connects = k.connects + excluded.connects;
    INSERT INTO talk_time_counts AS k (batch_key, from_seconds, recipients)
    SELECT p_batch_key, e.a::integer, e.recipients
    FROM unnest(p_counters, p_a, p_recipients) AS e (counter, a, recipients)
    WHERE e.counter = 'talk_time_counts'
    ON CONFLICT (batch_key, from_seconds) DO UPDATE SET recipients = k.recipients + excluded.recipients;
    INSERT INTO contact_counts AS k (batch_key, recipients, connects)
    SELECT p_batch_key, e.recipients, e.connects
    FROM unnest(p_counters, p_recipients, p_talked) AS e (counter, recipients, connects)
    WHERE e.counter = 'contact_counts'
    ON CONFLICT (batch_key) DO UPDATE
    SET recipients = k.recipients + excluded.recipients, connects = k.connects + excluded.connects;
    UPDATE goal_counts AS k SET recipients = k.recipients + e.recipients
    FROM unnest(p_counters, p_recipients) AS e (counter, recipients)
    WHERE e.counter = 'goal_counts' AND k.batch_key = p_batch_key;
    INSERT INTO retry_counts AS k (batch_key, due_at, recipients)
    SELECT p_batch_key, e.a::timestamptz, e.recipients
    FROM unnest(p_counters, p_a, p_recipients) AS e (counter, a, recipients)
    WHERE e.counter = 'retry_counts'
    ON CONFLICT (batch_key, due_at) DO UPDATE SET recipients = k.recipients + excluded.recipients;
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = p_batch_key;
END
$$;
