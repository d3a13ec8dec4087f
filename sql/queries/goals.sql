-- name: set_goal(agent_id, campaign_id, rule, actor, key_id, request_id)$
-- Sets or removes the goal of an agent or campaign; returns whether anything changed.
SELECT set_goal(:agent_id, :campaign_id, :rule::jsonb, :actor, :key_id, :request_id);

-- name: list_goals(agent_id, campaign_id, limit)
-- The goals of an agent or campaign, present and past, the latest first; a null rule: none of its own from then on.
SELECT g.rule, g.set_at, g.actor, g.counted_at
FROM agent_goals AS g
WHERE g.agent_id = :agent_id OR g.campaign_key = :campaign_id
ORDER BY g.goal_id DESC LIMIT :limit;

-- name: has_goal(agent_id)$
-- Whether the agent has a goal now.
SELECT EXISTS (SELECT FROM (SELECT * FROM agent_goals AS k WHERE k.agent_id = :agent_id ORDER BY k.goal_id DESC LIMIT 1) AS g
               WHERE g.rule IS NOT NULL);

-- name: has_campaign(campaign_id)$
-- Whether there is a test batch with this main batch.
SELECT EXISTS (SELECT FROM batches AS b WHERE b.campaign_key = :campaign_id);

-- name: list_uncounted_goals()
-- The latest change of the goal of each agent and campaign, where the batches that it concerns are not all counted yet.
SELECT g.goal_id, g.agent_id, g.campaign_key AS campaign_id
FROM agent_goals AS g
WHERE g.counted_at IS NULL
  AND NOT EXISTS (SELECT FROM agent_goals AS n
                  WHERE (n.agent_id = g.agent_id OR n.campaign_key = g.campaign_key) AND n.goal_id > g.goal_id)
ORDER BY g.goal_id;

-- name: list_uncounted_batches(agent_id, campaign_id, before, limit)
-- Batches of the agent or campaign with facts that are not wholly counted for their goal, the newest first, before a given
-- key.
SELECT b.batch_key
FROM batches AS b
JOIN contact_counts AS k ON k.batch_key = b.batch_key
JOIN batch_goals AS g ON g.batch_key = b.batch_key
LEFT JOIN goal_counts AS c ON c.batch_key = b.batch_key
WHERE (b.agent_id = :agent_id OR b.campaign_key = :campaign_id) AND b.batch_key < :before
  AND (c.goal_id IS DISTINCT FROM g.goal_id OR c.counted_to < 2147483647)
ORDER BY b.batch_key DESC
LIMIT :limit;

-- name: count_goal_step(batch_key, recipients)$
-- Counts some more recipients of a batch for its goal; returns whether recipients are left.
SELECT count_goal_step(:batch_key, :recipients);

-- name: finish_goal(goal_id)!
-- Records that all batches are counted after a change of a goal.
UPDATE agent_goals SET counted_at = clock_timestamp() WHERE goal_id = :goal_id AND counted_at IS NULL;
