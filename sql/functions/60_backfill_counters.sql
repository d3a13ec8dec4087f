-- Fills the counters that a migration added, for batches that were there before it. Runs in the transaction that makes
-- apply_facts() keep them, under the ingest lock, so no event comes between the two. A batch with a row in contact_counts
-- has been filled, by this or by apply_facts(), so running it again changes nothing.
--
-- A recipient was reached if its deciding fact is a completed call, or perhaps in an earlier attempt: only for those with
-- another completed fact does it read the attempts.
CREATE OR REPLACE FUNCTION backfill_counters() RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_batches    bigint[];
    v_keys       bigint[];
    v_recipients integer[];
BEGIN
    PERFORM lock_ingest();
    -- call_counts: only noted here, and counted in steps beside the service.
    IF NOT EXISTS (SELECT FROM repairs WHERE name = 'call_counts') THEN
        INSERT INTO uncounted_calls (batch_key, counted_to)
        SELECT DISTINCT c.batch_key, 0 FROM outcome_counts AS c
        ON CONFLICT DO NOTHING;
        INSERT INTO repairs (name) VALUES ('call_counts');
    END IF;
    SELECT array_agg(DISTINCT c.batch_key) INTO v_batches
    FROM outcome_counts AS c
    WHERE NOT EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = c.batch_key);
    IF v_batches IS NULL THEN
        RETURN;
    END IF;

    INSERT INTO talk_time_counts (batch_key, from_seconds, recipients)
    SELECT f.batch_key, talk_time_slot(f.duration_seconds), count(*)
    FROM outcomes AS o
    JOIN facts AS f USING (batch_key, recipient_no, arrival_id)
    WHERE o.batch_key = ANY (v_batches) AND o.state = 'completed' AND f.duration_seconds IS NOT NULL
    GROUP BY 1, 2;
    INSERT INTO retry_counts (batch_key, due_at, recipients)
    SELECT f.batch_key, retry_slot(f.next_retry_at), count(*)
    FROM outcomes AS o
    JOIN facts AS f USING (batch_key, recipient_no, arrival_id)
    WHERE o.batch_key = ANY (v_batches) AND o.state = 'pending_retry'
    GROUP BY 1, 2;

    SELECT array_agg(d.batch_key), array_agg(d.recipient_no) INTO v_keys, v_recipients
    FROM (
        SELECT DISTINCT e.batch_key, e.recipient_no
        FROM facts AS e
        JOIN outcomes AS o USING (batch_key, recipient_no)
        JOIN facts AS f
            ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
        WHERE e.batch_key = ANY (v_batches) AND e.status = 'completed' AND f.status <> 'completed'
    ) AS d;
    INSERT INTO contact_counts (batch_key, recipients, connects)
    SELECT b.batch_key,
           (SELECT count(*)
            FROM outcomes AS o
            JOIN facts AS f USING (batch_key, recipient_no, arrival_id)
            WHERE o.batch_key = b.batch_key AND o.state <> 'withdrawn' AND f.status = 'completed')
           + coalesce(e.recipients, 0),
           (SELECT coalesce(sum(a.attempts), 0)
            FROM attempt_counts AS a WHERE a.batch_key = b.batch_key AND a.status = 'completed')
    FROM unnest(v_batches) AS b (batch_key)
    LEFT JOIN (
        SELECT a.batch_key, count(DISTINCT a.recipient_no) AS recipients
        FROM attempts_of(v_keys, v_recipients, NULL) AS a
        WHERE a.status = 'completed'
        GROUP BY 1
    ) AS e USING (batch_key);
END
$$;

-- Counts the calls of some more recipients in call_counts, of batches from before it, the newest first. One commit, under
-- the ingest lock; null when all are counted, else the number of attempts.
CREATE OR REPLACE FUNCTION count_calls_step(p_recipients integer) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_batch    uncounted_calls;
    v_until    integer;
    v_attempts bigint;
BEGIN
    PERFORM lock_ingest();
    SELECT * INTO v_batch FROM uncounted_calls ORDER BY batch_key DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    v_until := v_batch.counted_to + p_recipients;
    WITH attempts AS MATERIALIZED (
        SELECT * FROM attempts_of(
            (SELECT array_agg(v_batch.batch_key) FROM generate_series(v_batch.counted_to + 1, v_until)),
            (SELECT array_agg(n) FROM generate_series(v_batch.counted_to + 1, v_until) AS n), NULL)
    ), counted AS (
        INSERT INTO call_counts AS c (batch_key, name, value, attempts, connects)
        SELECT v_batch.batch_key, v.name, coalesce(v.value, ''), count(*), count(*) FILTER (WHERE a.status = 'completed')
        FROM attempts AS a
        CROSS JOIN LATERAL call_values(a.from_phone, a.failure_reason) AS v
        GROUP BY v.name, ROLLUP (v.value)
        ON CONFLICT (batch_key, name, value) DO UPDATE
        SET attempts = c.attempts + excluded.attempts, connects = c.connects + excluded.connects
    )
    SELECT count(*) INTO v_attempts FROM attempts;
    IF v_until >= (SELECT b.recipient_count FROM batches AS b WHERE b.batch_key = v_batch.batch_key) THEN
        DELETE FROM uncounted_calls WHERE batch_key = v_batch.batch_key;
    ELSE
        UPDATE uncounted_calls SET counted_to = v_until WHERE batch_key = v_batch.batch_key;
    END IF;
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = v_batch.batch_key;
    RETURN v_attempts;
END
$$;
