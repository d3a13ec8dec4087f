-- Withdraws recipients from their batch, under the ingest lock: their events are unattributed again, and a reader of the
-- feed sees the recipients as withdrawn. Their rows stay.
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
    PERFORM take_facts(ARRAY(
        SELECT f.arrival_id
        FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
        CROSS JOIN LATERAL (SELECT arrival_id FROM facts WHERE facts.batch_key = t.batch_key
                            AND facts.recipient_no = t.recipient_no OFFSET 0) AS f));
    UPDATE outcomes AS o
    SET state = 'withdrawn', attempts = 0, changed_at = clock_timestamp(),
        -- A recipient that has just lost its facts already has a new position.
        position = CASE WHEN o.changed_at < v_now THEN nextval('feed_positions') ELSE o.position END,
        version = o.version + (o.changed_at < v_now)::integer
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no;
    UPDATE recipients AS r SET withdrawn_at = v_now
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE r.batch_key = t.batch_key AND r.recipient_no = t.recipient_no;
END
$$;
