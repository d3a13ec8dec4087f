-- Records batches from the provider's list: unknown ones as made elsewhere, known ones if they changed. Returns how many
-- were new or had changed. A field that the list lacks is null, and never replaces a known value; a batch without an agent
-- is only updated, because its calls cannot be identified.
--
-- A batch that an upload of ours is just creating must not be recorded as made elsewhere. An upload is 'uploading', and
-- committed as such, before the provider can know its batch. So a caller with the list's answer sees it as 'uploading', as
-- 'unknown' (then its name or size decides, which the provider may change a little), or with its batch id. Check and insert
-- are one statement, and so of one instant. The ingest lock is held because both change rows of several batches.
CREATE OR REPLACE FUNCTION note_batches(
    p_batch_ids bigint[], p_agent_ids bigint[], p_names text[], p_statuses text[], p_totals integer[],
    p_created_at timestamptz[]
)
RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_changed integer;
    v_uploads bigint[];
    v_since   timestamptz[];
BEGIN
    PERFORM lock_ingest();
    PERFORM reopen_doubtful_lookups(p_batch_ids, p_agent_ids, p_names, p_totals, p_created_at);
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
                     OR u.upload_state = 'unknown'
                        AND coalesce(fold_name(u.name) = fold_name(l.name)
                                     OR l.total_recipients - u.recipient_count + u.withdrawn_count BETWEEN -1 AND 1, true)
                        AND u.prepared_at <= coalesce(l.created_at, clock_timestamp()) + interval '1 day'))
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
    SELECT (SELECT count(*) FROM inserted) + (SELECT count(*) FROM changed) INTO v_changed;

    -- The same condition as above; if it does not hold, the batch has just been recorded.
    WITH withheld AS (
        INSERT INTO withheld_batches AS w (batch_id, agent_id, upload_key, total_recipients, since)
        SELECT DISTINCT ON (l.batch_id) l.batch_id, l.agent_id, u.batch_key, l.total_recipients,
               coalesce(l.created_at, clock_timestamp())
        FROM unnest(p_batch_ids, p_agent_ids, p_totals, p_created_at) AS l (batch_id, agent_id, total_recipients, created_at)
        JOIN batches AS u ON u.agent_id = l.agent_id AND u.batch_id IS NULL AND u.upload_state = 'unknown'
        WHERE NOT EXISTS (SELECT FROM batches AS k WHERE k.batch_id = l.batch_id)
        ORDER BY l.batch_id, u.batch_key
        ON CONFLICT (batch_id) DO UPDATE SET upload_key = excluded.upload_key
        WHERE w.upload_key <> excluded.upload_key
        RETURNING upload_key, since
    ), released AS (
        DELETE FROM withheld_batches AS w
        USING batches AS u
        WHERE u.batch_key = w.upload_key
          AND (u.upload_state <> 'unknown' OR EXISTS (SELECT FROM batches AS k WHERE k.batch_id = w.batch_id))
        RETURNING w.upload_key, w.since
    )
    SELECT array_agg(upload_key), array_agg(since) INTO v_uploads, v_since
    FROM (TABLE withheld UNION ALL TABLE released) AS t;
    PERFORM place_again(u, s - interval '5 minutes') FROM unnest(v_uploads, v_since) AS t (u, s);
    RETURN v_changed;
END
$$;
