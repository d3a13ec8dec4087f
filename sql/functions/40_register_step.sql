-- Takes the next step of a registration, of at most p_rows rows, under the ingest lock; returns the step that follows.
-- Each step is one commit, so after a crash it is either done or not. The registration's row is locked before the ingest
-- lock: waiting for the row while holding that lock would delay the webhooks.
--
-- Only a phone that appears once in the file can take over a recipient created on the fly. If it appears several times,
-- events without parameters may have gone to the wrong one, so all of them are withdrawn and tried again.
CREATE OR REPLACE FUNCTION register_step(p_batch_key bigint, p_rows integer) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_registration registrations;
    v_rows    integer[];
    v_taken   integer;
    v_last    bigint;
    v_batches bigint[];
    v_nos     integer[];
BEGIN
    SELECT * INTO v_registration FROM registrations WHERE batch_key = p_batch_key FOR UPDATE;
    IF NOT FOUND OR v_registration.step NOT IN ('match', 'withdraw') THEN
        RETURN v_registration.step;
    END IF;
    PERFORM lock_ingest();

    IF v_registration.step = 'match' THEN
        WITH rows AS MATERIALIZED (
            SELECT s.row_no, s.phone, s.parameters, coalesce(m.recipient_no, e.recipient_no) AS recipient_no
            FROM (SELECT * FROM staged_recipients
                  WHERE batch_key = p_batch_key AND row_no > v_registration.cursor
                  ORDER BY row_no LIMIT p_rows) AS s
            LEFT JOIN LATERAL (
                SELECT r.recipient_no
                FROM recipients AS r
                WHERE r.phone = s.phone AND r.batch_key = p_batch_key AND r.withdrawn_at IS NULL
                  AND comparable_parameters(r.parameters) IN (comparable_parameters(s.parameters), '{}')
                  AND NOT EXISTS (SELECT FROM staged_recipients AS o
                                  WHERE o.batch_key = p_batch_key AND o.phone = s.phone AND o.row_no <> s.row_no)
                ORDER BY comparable_parameters(r.parameters) = comparable_parameters(s.parameters) DESC
                LIMIT 1
            ) AS m ON true
            -- An erased person is recognised by the hash, so that what is counted for them stays counted.
            LEFT JOIN LATERAL (
                SELECT k.recipient_no
                FROM erased_recipients AS k
                JOIN recipients AS r ON r.batch_key = k.batch_key AND r.recipient_no = k.recipient_no
                WHERE k.phone_hash = hash_person('phone', s.phone) AND k.batch_key = p_batch_key
                  AND r.withdrawn_at IS NULL
                  AND NOT EXISTS (SELECT FROM staged_recipients AS o
                                  WHERE o.batch_key = p_batch_key AND o.phone = s.phone AND o.row_no <> s.row_no)
                ORDER BY k.recipient_no
                LIMIT 1
            ) AS e ON true
        ), appended AS (
            INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
            SELECT p_batch_key,
                   (SELECT recipient_count FROM batches WHERE batch_key = p_batch_key) + row_number() OVER (ORDER BY row_no),
                   phone, parameters
            FROM rows
            WHERE recipient_no IS NULL
            RETURNING recipient_no
        ), placed AS (
            SELECT row_no, recipient_no FROM rows WHERE recipient_no IS NOT NULL
            UNION ALL
            SELECT r.row_no, a.recipient_no
            FROM (SELECT array_agg(row_no ORDER BY row_no) AS row_nos FROM rows WHERE recipient_no IS NULL) AS n
            CROSS JOIN (SELECT array_agg(recipient_no ORDER BY recipient_no) AS nos FROM appended) AS t
            CROSS JOIN LATERAL unnest(n.row_nos) WITH ORDINALITY AS r (row_no, nth)
            CROSS JOIN LATERAL (SELECT t.nos[r.nth] AS recipient_no) AS a
        ), staged AS (
            INSERT INTO staged_recipients AS s (batch_key, row_no, phone, parameters, recipient_no)
            SELECT p_batch_key, row_no, '', '{}', recipient_no FROM placed
            ON CONFLICT (batch_key, row_no) DO UPDATE SET recipient_no = excluded.recipient_no
        )
        SELECT count(*), max(row_no), array_agg(row_no) FILTER (WHERE recipient_no IS NOT NULL)
        INTO v_taken, v_last, v_rows
        FROM rows;
        PERFORM set_parameters(p_batch_key, r.recipient_no, s.parameters)
        FROM unnest(v_rows) AS m (row_no)
        CROSS JOIN LATERAL (SELECT * FROM staged_recipients
                            WHERE batch_key = p_batch_key AND row_no = m.row_no OFFSET 0) AS s
        CROSS JOIN LATERAL (SELECT * FROM recipients
                            WHERE batch_key = p_batch_key AND recipient_no = s.recipient_no OFFSET 0) AS r
        WHERE r.parameters <> s.parameters;
        UPDATE batch_activity SET revision = revision + 1 WHERE batch_key = p_batch_key;
        UPDATE batches SET recipient_count = recipient_count + v_taken - coalesce(cardinality(v_rows), 0)
        WHERE batch_key = p_batch_key;
        UPDATE registrations
        SET cursor = CASE WHEN v_taken < p_rows THEN 0 ELSE v_last END,
            step = CASE WHEN v_taken < p_rows THEN 'withdraw' ELSE 'match' END,
            matched = matched + coalesce(cardinality(v_rows), 0)
        WHERE batch_key = p_batch_key
        RETURNING step INTO v_registration.step;
        RETURN v_registration.step;
    END IF;

    SELECT count(*), max(r.recipient_no),
           array_agg(p_batch_key) FILTER (WHERE NOT r.is_staged), array_agg(r.recipient_no) FILTER (WHERE NOT r.is_staged)
    INTO v_taken, v_last, v_batches, v_nos
    FROM (SELECT recipients.recipient_no,
                 withdrawn_at IS NOT NULL OR EXISTS (SELECT FROM staged_recipients AS s
                         WHERE s.batch_key = p_batch_key AND s.recipient_no = recipients.recipient_no) AS is_staged
          FROM recipients
          WHERE batch_key = p_batch_key AND recipient_no > v_registration.cursor
          ORDER BY recipient_no LIMIT p_rows) AS r;
    PERFORM withdraw_recipients(v_batches, v_nos);
    UPDATE registrations
    SET cursor = CASE WHEN v_taken < p_rows THEN 0 ELSE v_last END,
        step = CASE WHEN v_taken < p_rows THEN 'retry' ELSE 'withdraw' END,
        withdrawn = withdrawn + coalesce(cardinality(v_nos), 0)
    WHERE batch_key = p_batch_key
    RETURNING step INTO v_registration.step;
    UPDATE batches
    SET is_registered = v_registration.step = 'retry', columns = v_registration.columns,
        file_digest = v_registration.file_digest, withdrawn_count = withdrawn_count + coalesce(cardinality(v_nos), 0)
    WHERE batch_key = p_batch_key;
    RETURN v_registration.step;
END
$$;
