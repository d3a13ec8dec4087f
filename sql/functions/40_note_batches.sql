-- Takes down batches as the provider's list tells them: unknown ones as made elsewhere, known ones where they changed.
-- Returns how many were new or had changed. What the list does not say is null, and never replaces what is known; a batch
-- without an agent is only updated, since nobody can say whose calls are its.
--
-- A batch that an upload of ours is just making must not be taken for one made elsewhere. An upload is 'uploading', and
-- committed as such, before the provider can know its batch; so whoever calls this after the list's answer came sees it
-- as 'uploading', as 'unknown' (then its name or size tells), or with its batch id. Check and insert are one statement,
-- and so of one instant. The ingest lock is held since both change rows of several batches.
CREATE OR REPLACE FUNCTION note_batches(
    p_batch_ids bigint[], p_agent_ids bigint[], p_names text[], p_statuses text[], p_totals integer[],
    p_created_at timestamptz[]
)
RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_changed integer;
    v_new     bigint[];
    v_doubted_batches    bigint[];
    v_doubted_recipients integer[];
BEGIN
    PERFORM lock_ingest();
    WITH listed AS (
        SELECT DISTINCT ON (batch_id) *
        FROM unnest(p_batch_ids, p_agent_ids, p_names, p_statuses, p_totals, p_created_at)
            AS l (batch_id, agent_id, name, status, total_recipients, created_at)
    ), inserted AS (
        INSERT INTO batches (batch_id, agent_id, name, status, total_recipients, created_at, upload_state, columns, origin,
                             is_registered)
        SELECT l.batch_id, l.agent_id, coalesce(l.name, ''), l.status, l.total_recipients, l.created_at, 'uploaded', '{}',
               'provider', false
        FROM listed AS l
        WHERE l.agent_id IS NOT NULL AND NOT EXISTS (SELECT FROM batches AS k WHERE k.batch_id = l.batch_id)
          AND NOT EXISTS (
              SELECT FROM batches AS u
              WHERE u.agent_id = l.agent_id AND u.batch_id IS NULL
                AND (u.upload_state = 'uploading'
                     OR u.upload_state = 'unknown' AND ((u.name = l.name) IS NOT FALSE OR (u.recipient_count - u.withdrawn_count = l.total_recipients) IS NOT FALSE)
                        AND u.prepared_at <= coalesce(l.created_at, clock_timestamp()) + interval '5 minutes'))
        ON CONFLICT (batch_id) DO NOTHING
        RETURNING batch_key
    ), changed AS (
        UPDATE batches AS b
        SET name = coalesce(l.name, b.name), status = coalesce(l.status, b.status),
            total_recipients = coalesce(l.total_recipients, b.total_recipients),
            created_at = coalesce(l.created_at, b.created_at)
        FROM listed AS l
        WHERE b.batch_id = l.batch_id
          AND (b.name, b.status, b.total_recipients, b.created_at)
              IS DISTINCT FROM (coalesce(l.name, b.name), coalesce(l.status, b.status),
                                coalesce(l.total_recipients, b.total_recipients), coalesce(l.created_at, b.created_at))
        RETURNING b.batch_key
    )
    SELECT (SELECT count(*) FROM inserted) + (SELECT count(*) FROM changed), (SELECT array_agg(batch_key) FROM inserted)
    INTO v_changed, v_new;
    INSERT INTO registrations (batch_key, step) SELECT unnest(v_new), 'retry';

    -- Calls since a new batch began were taken for another window's, which seemed the only one: that was a guess.
    WITH doubted AS MATERIALIZED (
        SELECT DISTINCT f.batch_key, f.recipient_no
        FROM batches AS n
        JOIN batches AS o ON o.agent_id = n.agent_id AND NOT o.is_registered AND o.batch_key <> n.batch_key
        JOIN facts AS f ON f.batch_key = o.batch_key AND f.method = 'window'
            AND coalesce(f.started_at, f.occurred_at) >= coalesce(n.created_at, n.prepared_at) - interval '5 minutes'
        WHERE n.batch_key = ANY (v_new)
    ), counted AS (
        UPDATE batches AS b
        SET withdrawn_count = b.withdrawn_count + d.recipients
        FROM (SELECT batch_key, count(*) AS recipients FROM doubted GROUP BY batch_key) AS d
        WHERE b.batch_key = d.batch_key
    )
    SELECT array_agg(batch_key), array_agg(recipient_no) INTO v_doubted_batches, v_doubted_recipients FROM doubted;
    PERFORM withdraw_recipients(v_doubted_batches, v_doubted_recipients);
    RETURN v_changed;
END
$$;
