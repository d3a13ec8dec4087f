-- The upload that a new one would repeat, with the risk of calling its people twice: the first of its agent that is
--
-- - in doubt ('unknown'), and has the same name or the same people or file;
-- - being sent, and has the same file;
-- - if the new one has no idempotency key: not failed, of the last 24 hours, with the same name and file.
--
-- Names are compared by fold_name(). Digests may be null: rows and people are known once a file is checked.
CREATE OR REPLACE FUNCTION find_earlier_upload(
    p_agent_id bigint, p_name text, p_file_digest bytea, p_rows_digest bytea, p_people_digest bytea, p_has_key boolean,
    p_own_keys bigint[]
)
RETURNS bigint
LANGUAGE sql STABLE
AS $$
SELECT b.batch_key
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT coalesce(b.file_digest = p_file_digest OR b.rows_digest = p_rows_digest, false) AS is_same_file,
           fold_name(b.name) = fold_name(p_name) AS is_same_name
) AS t
WHERE b.agent_id = p_agent_id AND b.origin = 'upload' AND b.batch_key <> ALL (p_own_keys)
  AND (b.upload_state = 'unknown' AND (t.is_same_name OR t.is_same_file OR b.people_digest = p_people_digest)
       OR b.upload_state IN ('preparing', 'prepared', 'uploading') AND t.is_same_file
       OR NOT p_has_key AND b.prepared_at > clock_timestamp() - interval '24 hours' AND t.is_same_file AND t.is_same_name
          AND (b.upload_state <> 'failed' OR EXISTS (SELECT FROM reference_batches AS k WHERE k.batch_key = b.batch_key)))
ORDER BY b.upload_state <> 'unknown', b.batch_key
LIMIT 1
$$;

-- Stores the digests of an upload's checked file, also for the main batch behind it. If it repeats an upload after all,
-- returns that one and stores nothing. Call it last in the transaction that makes the upload 'prepared': of concurrent
-- callers the first one wins.
CREATE OR REPLACE FUNCTION record_file(
    p_batch_keys bigint[], p_rows_digest bytea, p_people_digest bytea, p_has_key boolean, p_force boolean
)
RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    v_earlier bigint;
BEGIN
    LOCK TABLE uploads_lock IN SHARE UPDATE EXCLUSIVE MODE;
    IF NOT p_force THEN
        SELECT find_earlier_upload(b.agent_id, b.name, NULL, p_rows_digest, p_people_digest, p_has_key, p_batch_keys)
        INTO v_earlier
        FROM batches AS b
        WHERE b.batch_key = p_batch_keys[1];
    END IF;
    IF v_earlier IS NULL THEN
        UPDATE batches AS b SET rows_digest = p_rows_digest, people_digest = p_people_digest
        WHERE b.batch_key = ANY (p_batch_keys);
    END IF;
    RETURN v_earlier;
END
$$;
