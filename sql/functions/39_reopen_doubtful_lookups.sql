-- Reverts a lookup's guess about an upload that nothing has proved since: the upload is 'unknown' again, and its batch is
-- free. It does so if the provider lists another batch that fits as well and was created before the upload's first known
-- call; and if its batch calls strangers, and none of its people. Under the ingest lock, with batches from the provider.
CREATE OR REPLACE FUNCTION reopen_doubtful_lookups(
    p_batch_ids bigint[], p_agent_ids bigint[], p_names text[], p_totals integer[], p_created_at timestamptz[]
)
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_upload record;
BEGIN
    FOR v_upload IN
        SELECT u.batch_key, u.batch_id, min(l.batch_id) FILTER (WHERE l.batch_id <> u.batch_id) AS other
        FROM batches AS u  -- by the index batches_guessed: few rows, of unfinished batches
        JOIN unnest(p_batch_ids, p_agent_ids, p_names, p_totals, p_created_at)
            AS l (batch_id, agent_id, name, total_recipients, created_at)
            ON l.batch_id = u.batch_id
            OR l.agent_id = u.agent_id AND NOT EXISTS (SELECT FROM batches AS k WHERE k.batch_id = l.batch_id)
        WHERE u.upload_state = 'uploaded' AND u.known_by = 'lookup' AND u.closed_at IS NULL
          AND CASE WHEN u.batch_id = l.batch_id THEN
              NOT EXISTS (SELECT FROM facts AS f WHERE f.batch_key = u.batch_key)
              AND EXISTS (SELECT FROM unreferenced_events AS e
                          JOIN unattributed AS w ON w.arrival_id = e.arrival_id AND w.reason = 'no_batch'
                          WHERE e.agent_id = u.agent_id AND e.scanned_at >= u.created_at
                            AND e.scanned_at < u.created_at + interval '1 day')
          ELSE
              coalesce(fold_name(l.name) = fold_name(u.name), true)
              AND coalesce(l.total_recipients - u.recipient_count + u.withdrawn_count BETWEEN -1 AND 1, true)
              AND coalesce(l.created_at BETWEEN u.sent_at - interval '5 minutes' AND u.sent_at + interval '1 day', true)
              AND NOT EXISTS (SELECT FROM facts AS f
                              WHERE f.batch_key = u.batch_key
                                AND coalesce(f.started_at, f.occurred_at) < l.created_at - interval '1 minute')
          END
        GROUP BY u.batch_key
    LOOP
        UPDATE batches AS b
        SET upload_state = 'unknown', batch_id = NULL, status = NULL, total_recipients = NULL, created_at = NULL,
            known_by = NULL, upload_changed_at = clock_timestamp(), next_lookup_at = clock_timestamp(),
            upload_detail = format('was linked to batch %s, but ', v_upload.batch_id)
                            || coalesce(format('batch %s fits as well', v_upload.other), 'that calls other people')
        WHERE b.batch_key = v_upload.batch_key;
        DELETE FROM batch_schedules AS s WHERE s.batch_key = v_upload.batch_key;
        IF EXISTS (SELECT FROM outcomes AS o WHERE o.batch_key = v_upload.batch_key) THEN
            INSERT INTO feed_moves AS m (batch_key, until_position)
            SELECT v_upload.batch_key, last_value FROM feed_positions
            ON CONFLICT ON CONSTRAINT feed_moves_pkey
            DO UPDATE SET until_position = excluded.until_position, cursor = 0;
        END IF;
    END LOOP;
END
$$;
