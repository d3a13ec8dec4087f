-- name: list_batches(agent_id, campaign_id, verdict, limit, offset)
-- The batches that the provider knows, newest first, with the verdict of the last comparison.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count - withdrawn_count) AS total_recipients,
       coalesce(plausible_time(created_at), prepared_at) AS created_at, campaign_key AS campaign_id, campaign_role,
       shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict,
       shown_verdict_text(s.verdict, s.verdict_text, EXISTS (SELECT FROM find_spilled())) AS verdict_text
FROM batches
LEFT JOIN LATERAL (SELECT k.verdict, k.verdict_text FROM batch_schedules AS k
                   WHERE k.batch_key = batches.batch_key OFFSET 0) AS s ON true
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
  AND (:campaign_id::bigint IS NULL OR campaign_key = :campaign_id)
  AND (:verdict::text IS NULL OR :verdict = shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())))
ORDER BY batch_id DESC
LIMIT :limit OFFSET :offset;

-- name: count_batches(agent_id, campaign_id, verdict)$
-- The number of batches that match.
SELECT count(*) FROM batches
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
  AND (:campaign_id::bigint IS NULL OR campaign_key = :campaign_id)
  AND (:verdict::text IS NULL OR :verdict = shown_verdict(
           (SELECT s.verdict FROM batch_schedules AS s WHERE s.batch_key = batches.batch_key),
           EXISTS (SELECT FROM find_spilled())));

-- name: get_batch(batch_id)^
-- One batch.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count - withdrawn_count) AS total_recipients,
       coalesce(plausible_time(created_at), prepared_at) AS created_at, campaign_key AS campaign_id, campaign_role,
       shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict,
       shown_verdict_text(s.verdict, s.verdict_text, EXISTS (SELECT FROM find_spilled())) AS verdict_text
FROM batches
LEFT JOIN LATERAL (SELECT k.verdict, k.verdict_text FROM batch_schedules AS k
                   WHERE k.batch_key = batches.batch_key OFFSET 0) AS s ON true
WHERE batch_id = :batch_id;
