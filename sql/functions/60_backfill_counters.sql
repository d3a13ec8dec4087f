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
