-- People who must not be called. A transaction that suppresses a person marks their rows in uploads that are stored and not
-- yet sent. One that stores an upload compares it with the list afterwards. suppressions_lock orders the two: at least one
-- of them sees the other, and from the commit of a suppression no sending begins that includes the person.
--
-- The lock is taken before any other, and held for a few milliseconds, never over a round trip.

-- Suppresses people; element n of every array is for phone n. p_called_at: the call from which it was learned, by a rule of
-- the agent. Returns how many are new, and how many rows of waiting uploads are left out because of them. Somebody who was
-- removed from the list is suppressed again, but not by a call from before that.
CREATE OR REPLACE FUNCTION suppress_people(
    p_phones text[], p_reasons text[], p_source text, p_agent_ids bigint[], p_called_at timestamptz[], p_actor text,
    p_key_id bigint, p_request_id text, OUT added integer, OUT waiting integer
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    LOCK TABLE suppressions_lock IN SHARE UPDATE EXCLUSIVE MODE;
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (p.phone_hash) p.*
        FROM (SELECT hash_person('phone', u.phone) AS phone_hash, u.reason, u.agent_id, u.called_at, u.nth
              FROM unnest(p_phones, p_reasons, p_agent_ids, p_called_at) WITH ORDINALITY
                  AS u (phone, reason, agent_id, called_at, nth)) AS p
        ORDER BY p.phone_hash, p.called_at DESC NULLS FIRST, p.nth
    ), new AS (
        INSERT INTO suppressions AS s (phone_hash, reason, source, agent_id, called_at, actor)
        SELECT g.phone_hash, g.reason, p_source, g.agent_id, g.called_at, p_actor FROM given AS g
        ON CONFLICT (phone_hash) DO UPDATE
        SET suppression_no = excluded.suppression_no, reason = excluded.reason, source = excluded.source,
            agent_id = excluded.agent_id, called_at = excluded.called_at, since = excluded.since,
            actor = excluded.actor, lifted_at = NULL
        WHERE s.lifted_at IS NOT NULL AND (excluded.called_at IS NULL OR excluded.called_at > s.lifted_at)
        RETURNING s.phone_hash, s.reason, s.agent_id
    ), audited AS (
        INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
        SELECT p_actor, p_key_id, p_request_id, 'suppression',
               CASE WHEN count(*) = 1 THEN 'person ' || min(left(encode(n.phone_hash, 'hex'), 16)) ELSE 'people' END,
               'suppressed',
               jsonb_strip_nulls(jsonb_build_object('people', count(*), 'reason', n.reason, 'source', p_source,
                                                    'agent_id', n.agent_id))
        FROM new AS n
        GROUP BY n.reason, n.agent_id
    )
    SELECT count(*) INTO added FROM new;
    waiting := mark_suppressed_phones(p_phones);
END
$$;

-- Marks the rows of suppressed people among these phones in uploads that are stored and not yet sent. Returns how many.
CREATE OR REPLACE FUNCTION mark_suppressed_phones(p_phones text[]) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_marked integer;
BEGIN
    INSERT INTO suppressed_recipients (batch_key, recipient_no)
    SELECT r.batch_key, r.recipient_no
    FROM (SELECT DISTINCT h.phone, h.phone_hash FROM hash_phones(p_phones) AS h) AS h
    CROSS JOIN LATERAL (SELECT k.lifted_at FROM suppressions AS k WHERE k.phone_hash = h.phone_hash OFFSET 0) AS s
    CROSS JOIN LATERAL (SELECT k.batch_key, k.recipient_no FROM recipients AS k
                        WHERE k.phone = h.phone AND k.withdrawn_at IS NULL OFFSET 0) AS r
    CROSS JOIN LATERAL (SELECT k.upload_state FROM batches AS k WHERE k.batch_key = r.batch_key OFFSET 0) AS b
    WHERE s.lifted_at IS NULL AND b.upload_state IN ('prepared', 'held')
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_marked = ROW_COUNT;
    RETURN v_marked;
END
$$;

-- Suppresses the people of calls whose results match a rule, before the calls are ingested: a crash in between loses
-- nothing, because the events come again. The person is the one who was called and the one whom the reference names,
-- where they differ. A call from before the person was removed from the list changes nothing.
CREATE OR REPLACE FUNCTION learn_suppressions(
    p_phones text[], p_ref_tokens text[], p_ref_nos integer[], p_agent_ids bigint[], p_reasons text[],
    p_called_at timestamptz[], OUT added integer, OUT waiting integer
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    SELECT s.added, s.waiting INTO added, waiting
    FROM (
        SELECT array_agg(p.phone) AS phones, array_agg(e.reason) AS reasons, array_agg(e.agent_id) AS agent_ids,
               array_agg(e.called_at) AS called_at
        FROM unnest(p_phones, p_ref_tokens, p_ref_nos, p_agent_ids, p_reasons, p_called_at)
            AS e (phone, ref_token, ref_no, agent_id, reason, called_at)
        CROSS JOIN LATERAL (
            SELECT e.phone
            UNION
            SELECT r.phone
            FROM batches AS b
            CROSS JOIN LATERAL (SELECT k.phone FROM recipients AS k
                                WHERE k.batch_key = b.batch_key AND k.recipient_no = e.ref_no OFFSET 0) AS r
            WHERE b.ref_token = e.ref_token AND b.agent_id = e.agent_id
        ) AS p (phone)
        WHERE p.phone IS NOT NULL
    ) AS g
    CROSS JOIN LATERAL suppress_people(g.phones, g.reasons, 'outcome', g.agent_ids, g.called_at, 'service', NULL, NULL) AS s
    WHERE g.phones IS NOT NULL;
END
$$;

-- Removes a person from the list: later uploads may call them. Rows that were left out of a file already stay out. Returns
-- the person's hash in the log, or null for somebody who is not on the list.
CREATE OR REPLACE FUNCTION lift_suppression(
    p_phone text, p_reason text, p_actor text, p_key_id bigint, p_request_id text
) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_person text;
BEGIN
    LOCK TABLE suppressions_lock IN SHARE UPDATE EXCLUSIVE MODE;
    UPDATE suppressions AS s SET lifted_at = clock_timestamp()
    WHERE s.phone_hash = hash_person('phone', p_phone) AND s.lifted_at IS NULL
    RETURNING left(encode(s.phone_hash, 'hex'), 16) INTO v_person;
    IF v_person IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM suppressed_recipients AS k
    USING recipients AS r
    WHERE r.phone = p_phone AND k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no;
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    VALUES (p_actor, p_key_id, p_request_id, 'suppression', 'person ' || v_person, 'lifted',
            json_build_object('reason', p_reason));
    RETURN v_person;
END
$$;

-- Marks the rows of a stored upload whose people are suppressed. p_after: only by suppressions with a higher number, since
-- the file was compared with the others. Waits for transactions that are suppressing people now, which cannot see the upload.
CREATE OR REPLACE FUNCTION wait_for_suppressions() RETURNS void
LANGUAGE plpgsql
AS $$ BEGIN LOCK TABLE suppressions_lock IN SHARE UPDATE EXCLUSIVE MODE; END $$;

CREATE OR REPLACE FUNCTION mark_suppressed(p_batch_keys bigint[], p_after bigint) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_marked integer;
BEGIN
    IF NOT EXISTS (SELECT FROM suppressions AS s WHERE s.suppression_no > p_after AND s.lifted_at IS NULL) THEN
        RETURN 0;
    END IF;
    INSERT INTO suppressed_recipients (batch_key, recipient_no)
    SELECT r.batch_key, r.recipient_no
    FROM hash_phones(ARRAY(SELECT DISTINCT k.phone FROM recipients AS k
                           WHERE k.batch_key = ANY (p_batch_keys) AND k.withdrawn_at IS NULL)) AS h
    JOIN suppressions AS s ON s.phone_hash = h.phone_hash AND s.suppression_no > p_after AND s.lifted_at IS NULL
    JOIN recipients AS r ON r.phone = h.phone AND r.batch_key = ANY (p_batch_keys) AND r.withdrawn_at IS NULL
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_marked = ROW_COUNT;
    RETURN v_marked;
END
$$;

-- The step before the one that dials: from here on the upload is never begun again. Returns nothing when it was abandoned
-- meanwhile, or when its references came in, which shows that it was sent before. sent_at null: people in it are
-- suppressed, and must be withdrawn first.
CREATE OR REPLACE FUNCTION begin_sending(p_batch_key bigint, p_seconds double precision)
RETURNS TABLE (agent_id bigint, name text, sent_at timestamptz)
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE suppressions_lock IN SHARE UPDATE EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM suppressed_recipients AS k WHERE k.batch_key = p_batch_key) THEN
        RETURN QUERY SELECT b.agent_id, b.name, NULL::timestamptz FROM batches AS b
                     WHERE b.batch_key = p_batch_key AND b.upload_state = 'prepared';
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE batches AS b
    SET upload_state = 'uploading', upload_detail = NULL, upload_changed_at = clock_timestamp(),
        sent_at = clock_timestamp(), leased_until = clock_timestamp() + make_interval(secs => p_seconds), known_by = NULL
    WHERE b.batch_key = p_batch_key AND b.upload_state = 'prepared'
      AND NOT EXISTS (SELECT FROM reference_batches AS k WHERE k.batch_key = b.batch_key)
    RETURNING b.agent_id, b.name, b.sent_at;
END
$$;

-- Withdraws recipients of a batch before it is sent: they are not in its file any more. Returns their number.
CREATE OR REPLACE FUNCTION withdraw_unsent(p_batch_key bigint, p_recipient_nos integer[]) RETURNS integer
LANGUAGE sql
AS $$
DELETE FROM suppressed_recipients AS k WHERE k.batch_key = p_batch_key AND k.recipient_no = ANY (p_recipient_nos);
WITH gone AS (
    UPDATE recipients AS r SET withdrawn_at = clock_timestamp()
    WHERE r.batch_key = p_batch_key AND r.recipient_no = ANY (p_recipient_nos) AND r.withdrawn_at IS NULL
    RETURNING 1
), counted AS (
    UPDATE batches AS b SET withdrawn_count = b.withdrawn_count + (SELECT count(*) FROM gone)
    WHERE b.batch_key = p_batch_key
)
SELECT count(*)::integer FROM gone
$$;

-- Those of these phones that were called since a time, with the state of the recipient in each batch: a call of it began
-- since then, or it was given to the provider since then, for all that is known, and is not final.
CREATE OR REPLACE FUNCTION called_phones(p_phones text[], p_since timestamptz) RETURNS TABLE (phone text, state text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT p.phone, coalesce(o.state, 'in_progress')
    FROM unnest(p_phones) AS p (phone)
    CROSS JOIN LATERAL (SELECT k.batch_key, k.recipient_no FROM recipients AS k
                        WHERE k.phone = p.phone AND k.withdrawn_at IS NULL OFFSET 0) AS r
    CROSS JOIN LATERAL (
        SELECT k.upload_state IN ('uploading', 'uploaded', 'unknown')
               AND coalesce(k.sent_at, k.created_at, k.prepared_at) >= p_since AS is_given
        FROM batches AS k WHERE k.batch_key = r.batch_key OFFSET 0
    ) AS b
    LEFT JOIN LATERAL (SELECT k.state FROM outcomes AS k
                       WHERE k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no OFFSET 0) AS o ON true
    WHERE b.is_given AND coalesce(o.state, 'in_progress') IN ('in_progress', 'pending_retry')
       OR EXISTS (SELECT FROM facts AS f
                  WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no
                    AND coalesce(f.started_at, f.ended_at, f.occurred_at, f.recorded_at) >= p_since);
END
$$;
