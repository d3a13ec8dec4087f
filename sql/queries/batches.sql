-- name: list_batches(agent_id, campaign_id, limit, offset)
-- The batches that the provider knows, newest first.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count) AS total_recipients,
       coalesce(created_at, prepared_at) AS created_at, campaign_key AS campaign_id, campaign_role
FROM batches
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
  AND (:campaign_id::bigint IS NULL OR campaign_key = :campaign_id)
ORDER BY batch_id DESC
LIMIT :limit OFFSET :offset;

-- name: count_batches(agent_id, campaign_id)$
-- How many there are in all.
SELECT count(*) FROM batches
WHERE batch_id IS NOT NULL AND (:agent_id::bigint IS NULL OR agent_id = :agent_id)
  AND (:campaign_id::bigint IS NULL OR campaign_key = :campaign_id);

-- name: get_batch(batch_id)^
-- One batch.
SELECT batch_id AS id, name, agent_id, status, coalesce(total_recipients, recipient_count) AS total_recipients,
       coalesce(created_at, prepared_at) AS created_at, campaign_key AS campaign_id, campaign_role
FROM batches
WHERE batch_id = :batch_id;
