-- Makes uploads that were recorded as not sent 'unknown' again, because webhooks with their references came in: evidence
-- beats an answer and a person. Called by ingest(), so it skips locked rows instead of waiting: fail_upload() and
-- begin_sending check reference_batches themselves.
CREATE OR REPLACE FUNCTION reopen_proven_uploads(p_batch_keys bigint[]) RETURNS void
LANGUAGE sql
AS $$
UPDATE batches AS b
SET upload_state = 'unknown', upload_changed_at = clock_timestamp(), leased_until = NULL, known_by = NULL,
    next_lookup_at = clock_timestamp(),
    upload_detail = 'was considered not sent, but calls with its references arrived'
FROM (SELECT k.batch_key FROM batches AS k
      WHERE k.batch_key = ANY (p_batch_keys) AND k.batch_id IS NULL AND k.origin = 'upload'
        AND k.upload_state IN ('failed', 'held', 'prepared')
      FOR UPDATE SKIP LOCKED) AS found
WHERE b.batch_key = found.batch_key
$$;
