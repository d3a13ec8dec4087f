-- Repairs phones that older versions stored as the provider wrote them: PhoneRepair reads them and converts them to E.164.
-- Each call is one small commit, which moves the cursor; of two processes that read the same phones only one commits.

-- Restarts erasures that missed a phone because of the spelling in which it was stored.
CREATE OR REPLACE FUNCTION reopen_erasures_of(p_phones text[], p_since timestamptz[]) RETURNS void
LANGUAGE sql
AS $$
INSERT INTO erasures (phone, phone_hash, actor, requested_at)
SELECT DISTINCT p.phone, e.phone_hash, 'service', e.erased_at
FROM unnest(p_phones, p_since) AS p (phone, since)
JOIN erased_phones AS e ON e.phone_hash = hash_person('phone', p.phone) AND p.since <= e.erased_at
WHERE NOT EXISTS (SELECT FROM erasures AS k WHERE k.phone_hash = e.phone_hash AND k.step <> 'done')
$$;

-- Records the progress of the repair; null p_cursor: the step is over. Returns false if another process was faster.
CREATE OR REPLACE FUNCTION move_repair(
    p_step text, p_after_batch bigint, p_after bigint, p_batch_key bigint, p_cursor bigint, p_repaired integer
) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE phone_repairs AS r
    SET batch_key = coalesce(p_batch_key, 0), cursor = coalesce(p_cursor, 0), repaired = r.repaired + p_repaired,
        step = CASE WHEN p_cursor IS NOT NULL THEN p_step WHEN p_step = 'recipients' THEN 'unattributed' ELSE 'done' END,
        passes = r.passes + (p_cursor IS NULL AND p_step = 'unattributed')::integer,
        due_at = CASE WHEN p_cursor IS NOT NULL OR p_step = 'recipients' THEN r.due_at
                      WHEN r.passes = 0 THEN clock_timestamp() + interval '1 day' ELSE 'infinity' END
    WHERE r.name = 'phones' AND r.step = p_step AND r.batch_key = p_after_batch AND r.cursor = p_after;
    RETURN FOUND;
END
$$;

-- Recipients created on the fly. If one person was two recipients of a batch because of two spellings, the later one is
-- withdrawn, and its events are tried again.
CREATE OR REPLACE FUNCTION repair_recipients(
    p_after_batch bigint, p_after bigint, p_batch_key bigint, p_cursor bigint,
    p_batch_keys bigint[], p_recipient_nos integer[], p_said text[], p_phones text[]
) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_keys bigint[];
    v_nos  integer[];
BEGIN
    IF cardinality(p_batch_keys) > 0 THEN
        PERFORM lock_ingest();
    END IF;
    IF NOT move_repair('recipients', p_after_batch, p_after, p_batch_key, p_cursor, cardinality(p_batch_keys)) THEN
        RETURN false;
    END IF;
    UPDATE recipients AS r SET phone = t.phone
    FROM unnest(p_batch_keys, p_recipient_nos, p_said, p_phones) AS t (batch_key, recipient_no, said, phone)
    WHERE r.batch_key = t.batch_key AND r.recipient_no = t.recipient_no AND r.phone = t.said;
    UPDATE unreferenced_events AS u SET phone = t.phone
    FROM unnest(p_batch_keys, p_recipient_nos, p_said, p_phones) AS t (batch_key, recipient_no, said, phone)
    JOIN facts AS f ON f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no
    WHERE u.arrival_id = f.arrival_id AND u.phone = t.said;
    UPDATE outcomes AS o
    SET position = nextval('feed_positions'), version = o.version + 1, changed_at = clock_timestamp()
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no;
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = ANY (p_batch_keys);

    SELECT array_agg(d.batch_key), array_agg(d.recipient_no) INTO v_keys, v_nos
    FROM (
        SELECT DISTINCT r.batch_key, r.recipient_no
        FROM unnest(p_batch_keys, p_phones) AS t (batch_key, phone)
        JOIN recipients AS r ON r.phone = t.phone AND r.batch_key = t.batch_key AND r.withdrawn_at IS NULL
        WHERE EXISTS (SELECT FROM recipients AS k
                      WHERE k.phone = r.phone AND k.batch_key = r.batch_key AND k.withdrawn_at IS NULL
                        AND (comparable_parameters(k.parameters) = comparable_parameters(r.parameters)
                                 AND k.recipient_no < r.recipient_no
                             OR comparable_parameters(r.parameters) = '{}'
                                AND comparable_parameters(k.parameters) <> '{}'))
    ) AS d;
    PERFORM withdraw_recipients(v_keys, v_nos);
    UPDATE batches AS b SET withdrawn_count = b.withdrawn_count + d.recipients
    FROM (SELECT k.batch_key, count(*) AS recipients FROM unnest(v_keys) AS k (batch_key) GROUP BY 1) AS d
    WHERE b.batch_key = d.batch_key;
    PERFORM place_again(k.batch_key, NULL) FROM (SELECT DISTINCT unnest(v_keys) AS batch_key) AS k;
    PERFORM reopen_erasures_of(array_agg(t.phone), array_agg(least(b.prepared_at, b.created_at)))
    FROM unnest(p_batch_keys, p_phones) AS t (batch_key, phone)
    JOIN batches AS b ON b.batch_key = t.batch_key;
    RETURN true;
END
$$;

-- Unattributed events, which are then placed by the repaired phone.
CREATE OR REPLACE FUNCTION repair_waiting(
    p_after bigint, p_cursor bigint, p_arrival_ids bigint[], p_said text[], p_phones text[]
) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    IF cardinality(p_arrival_ids) > 0 THEN
        PERFORM lock_ingest();
    END IF;
    IF NOT move_repair('unattributed', 0, p_after, 0, p_cursor, cardinality(p_arrival_ids)) THEN
        RETURN false;
    END IF;
    UPDATE unattributed AS u SET phone = t.phone
    FROM unnest(p_arrival_ids, p_said, p_phones) AS t (arrival_id, said, phone)
    WHERE u.arrival_id = t.arrival_id AND u.phone = t.said;
    UPDATE unreferenced_events AS u SET phone = t.phone
    FROM unnest(p_arrival_ids, p_said, p_phones) AS t (arrival_id, said, phone)
    WHERE u.arrival_id = t.arrival_id AND u.phone = t.said;
    PERFORM place_events(array_agg(u.agent_id), array_agg(u.phone), array_agg(earliest_call(u.started_at, u.called_at)))
    FROM unnest(p_arrival_ids) AS t (arrival_id)
    JOIN unreferenced_events AS u ON u.arrival_id = t.arrival_id;
    PERFORM reopen_erasures_of(array_agg(u.phone), array_agg(u.received_at))
    FROM unnest(p_arrival_ids) AS t (arrival_id)
    JOIN unattributed AS u ON u.arrival_id = t.arrival_id;
    RETURN true;
END
$$;
