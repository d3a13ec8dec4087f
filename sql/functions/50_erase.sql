-- Erasure of a person by phone. It begins with a tombstone, written under the ingest lock, so that every later webhook is
-- checked against it. Then it goes step by step. Each step is a commit of at most p_rows rows: after a crash the next
-- process finds all of a step or nothing, and no webhook waits for more than one.
CREATE OR REPLACE FUNCTION begin_erasure(
    p_phone text, p_actor text, p_key_id bigint, p_request_id text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    v_hash CONSTANT bytea := hash_person('phone', p_phone);
    v_erasure_id bigint;
BEGIN
    PERFORM lock_ingest();
    INSERT INTO erased_phones AS e (phone_hash, erased_at) VALUES (v_hash, clock_timestamp())
    ON CONFLICT (phone_hash) DO UPDATE SET erased_at = excluded.erased_at;
    SELECT erasure_id INTO v_erasure_id FROM erasures WHERE phone_hash = v_hash AND step <> 'done' LIMIT 1;
    IF v_erasure_id IS NULL THEN
        INSERT INTO erasures (phone, phone_hash, actor, key_id, request_id)
        VALUES (p_phone, v_hash, p_actor, p_key_id, p_request_id)
        RETURNING erasure_id INTO v_erasure_id;
    ELSE
        UPDATE erasures SET step = 'recipients', cursor = 0, requested_at = clock_timestamp(), searched_at = NULL
        WHERE erasure_id = v_erasure_id;
    END IF;
    RETURN v_erasure_id;
END
$$;

-- Restarts the erasures of erased people who appear in a file that is only now registered, for a batch created before the
-- erasure. In the transaction that stages its rows.
CREATE OR REPLACE FUNCTION reopen_erasures(p_batch_key bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM erased_phones) THEN
        RETURN;
    END IF;
    INSERT INTO erasures (phone, phone_hash, actor, requested_at)
    SELECT DISTINCT s.phone, e.phone_hash, 'service', clock_timestamp()
    FROM staged_recipients AS s
    JOIN erased_phones AS e ON e.phone_hash = hash_person('phone', s.phone)
    JOIN batches AS b ON b.batch_key = s.batch_key AND least(b.prepared_at, b.created_at) <= e.erased_at
    WHERE s.batch_key = p_batch_key;
END
$$;

-- Takes the next step; returns the one that follows. 'held' is not taken here, because it reads files; nor are the steps
-- that read bodies: see read_unsearched() and erase_named(). 'late' again means that something on its way in has not
-- arrived, so ask again later; the previous version also gets this answer for steps that it does not know.
CREATE OR REPLACE FUNCTION erase_step(p_erasure_id bigint, p_rows integer) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_erasure  erasures;
    v_keys     bigint[];
    v_nos      integer[];
    v_count    integer := 0;
    v_bodies   integer := 0;
    v_are_others_left boolean;
BEGIN
    SELECT * INTO v_erasure FROM erasures WHERE erasure_id = p_erasure_id FOR UPDATE;
    IF v_erasure.step = 'recipients' THEN
        PERFORM lock_ingest();
        SELECT array_agg(t.batch_key), array_agg(t.recipient_no)
        INTO v_keys, v_nos
        FROM (
            SELECT r.batch_key, r.recipient_no
            FROM recipients AS r
            JOIN batches AS b ON b.batch_key = r.batch_key
            WHERE r.phone = v_erasure.phone AND least(b.prepared_at, b.created_at) <= v_erasure.requested_at
            ORDER BY r.batch_key, r.recipient_no
            LIMIT p_rows
        ) AS t;
        v_count := coalesce(cardinality(v_keys), 0);
        v_bodies := erase_other_calls(ARRAY(
            SELECT o.arrival_id FROM other_events AS o
            WHERE o.phone = v_erasure.phone AND o.called_at <= v_erasure.requested_at
            ORDER BY o.arrival_id LIMIT p_rows));
        v_are_others_left := EXISTS (SELECT FROM other_events AS o
                                     WHERE o.phone = v_erasure.phone AND o.called_at <= v_erasure.requested_at);
        DELETE FROM reference_contradictions WHERE phone = v_erasure.phone;
        IF v_count > 0 THEN
            v_bodies := v_bodies + erase_recipients(v_keys, v_nos, v_erasure.phone_hash);
            -- The provider may have quoted a row that it rejected.
            UPDATE batches SET upload_detail = NULL
            WHERE batch_key = ANY (v_keys) AND position(substr(v_erasure.phone, 2) IN upload_detail) > 0;
        END IF;
        -- After the person's own recipients: what is left was placed by hand at somebody else's.
        IF v_count < p_rows THEN
            v_bodies := v_bodies + erase_placed_calls(find_placed_calls(v_erasure.phone, v_erasure.requested_at));
        END IF;
        UPDATE erasures
        SET recipients = recipients + v_count, bodies = bodies + v_bodies,
             cursor = 0, step = CASE WHEN v_count < p_rows AND NOT v_are_others_left THEN 'unattributed'
                                    ELSE 'recipients' END
        WHERE erasure_id = p_erasure_id
        RETURNING step INTO v_erasure.step;
    ELSIF v_erasure.step IN ('unattributed', 'quarantine') OR v_erasure.step = 'late' AND v_erasure.searched_at IS NULL THEN
        RETURN 'late';
    ELSIF v_erasure.step = 'late' THEN
        IF EXISTS (SELECT FROM batches AS b
                   WHERE b.upload_state = 'preparing' AND b.prepared_at <= v_erasure.requested_at)
           OR EXISTS (SELECT FROM registrations AS r
                      JOIN staged_recipients AS s ON s.batch_key = r.batch_key AND s.phone = v_erasure.phone
                      WHERE r.step <> 'done')
           OR EXISTS (SELECT FROM phone_repairs AS r WHERE r.name = 'phones' AND r.passes = 0) THEN
            RETURN 'late';
        END IF;
        IF EXISTS (SELECT FROM recipients AS r JOIN batches AS b ON b.batch_key = r.batch_key
                   WHERE r.phone = v_erasure.phone AND least(b.prepared_at, b.created_at) <= v_erasure.requested_at) THEN
            UPDATE erasures SET step = 'recipients' WHERE erasure_id = p_erasure_id;
            RETURN 'recipients';
        END IF;
        UPDATE erasures SET step = 'done', phone = NULL, finished_at = clock_timestamp() WHERE erasure_id = p_erasure_id;
        INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
        VALUES (v_erasure.actor, v_erasure.key_id, v_erasure.request_id, 'erasure', 'person ' || left(encode(v_erasure.phone_hash, 'hex'), 16),
                'erased', json_build_object(
                    'erasure_id', p_erasure_id, 'recipients', v_erasure.recipients, 'bodies', v_erasure.bodies,
                    'unattributed', v_erasure.unattributed, 'quarantined', v_erasure.quarantined,
                    'bodies_read', v_erasure.bodies_read,
                    'held_rows', v_erasure.held_rows));
        RETURN 'finished';
    END IF;
    RETURN v_erasure.step;
END
$$;
