-- Takes recipients out of their batch, under the ingest lock: what they count for leaves the counters, their events wait
-- again as unattributed, and a reader of the feed sees them withdrawn. Their rows stay, and what was known of them is kept
-- apart, for whoever asks what was told earlier.
CREATE OR REPLACE FUNCTION withdraw_recipients(p_batch_keys bigint[], p_recipient_nos integer[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF p_batch_keys IS NULL THEN
        RETURN;
    END IF;
    PERFORM apply_facts(p_batch_keys, p_recipient_nos, NULL);
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = ANY (p_batch_keys);
    INSERT INTO unattributed (arrival_id, event_id, agent_id, phone, reason, received_at)
    SELECT f.arrival_id, f.event_id, b.agent_id, r.phone, 'no_batch', e.received_at
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.batch_key = t.batch_key
                        AND facts.recipient_no = t.recipient_no OFFSET 0) AS f
    CROSS JOIN LATERAL (SELECT agent_id FROM batches WHERE batches.batch_key = t.batch_key OFFSET 0) AS b
    CROSS JOIN LATERAL (SELECT phone FROM recipients WHERE recipients.batch_key = t.batch_key
                        AND recipients.recipient_no = t.recipient_no OFFSET 0) AS r
    CROSS JOIN LATERAL (
        SELECT received_at FROM events WHERE events.event_id = f.event_id AND events.arrival_id = f.arrival_id
        UNION ALL
        SELECT received_at FROM event_conflicts AS c WHERE c.event_id = f.event_id AND c.arrival_id = f.arrival_id
    ) AS e;
    WITH taken AS (
        DELETE FROM facts AS f
        USING unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
        WHERE f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no
        RETURNING f.*
    )
    INSERT INTO past_facts SELECT taken.*, v_now FROM taken;
    UPDATE outcomes AS o
    SET state = 'withdrawn', attempts = 0, position = nextval('feed_positions'), version = o.version + 1,
        changed_at = clock_timestamp()
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no;
    UPDATE recipients AS r SET withdrawn_at = v_now
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE r.batch_key = t.batch_key AND r.recipient_no = t.recipient_no;
END
$$;
