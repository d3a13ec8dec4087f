-- name: set_goal(agent_id, rule, actor, key_id, request_id)$
-- Sets or removes the goal of an agent; returns whether anything changed.
SELECT set_goal(:agent_id, :rule::jsonb, :actor, :key_id, :request_id);

-- name: list_goals(agent_id, limit)
-- The goals of an agent, present and past, the latest first; a null rule: none from then on.
SELECT g.rule, g.set_at, g.actor, g.counted_at
FROM agent_goals AS g WHERE g.agent_id = :agent_id ORDER BY g.goal_id DESC LIMIT :limit;

-- name: has_goal(agent_id)$
-- Whether the agent has a goal now.
SELECT EXISTS (SELECT FROM find_goal(:agent_id));

-- name: list_uncounted_goals()
-- The goals in force whose batches are not all counted yet.
SELECT g.goal_id, g.agent_id
FROM agent_goals AS g
WHERE g.counted_at IS NULL AND g.rule IS NOT NULL
  AND NOT EXISTS (SELECT FROM agent_goals AS n WHERE n.agent_id = g.agent_id AND n.goal_id > g.goal_id)
ORDER BY g.goal_id;

-- name: list_uncounted_batches(goal_id, agent_id, before, limit)
-- Batches of the agent with facts that are not wholly counted for this goal, the newest first, before a given key.
SELECT b.batch_key
FROM batches AS b
JOIN contact_counts AS k ON k.batch_key = b.batch_key
LEFT JOIN goal_counts AS c ON c.batch_key = b.batch_key
WHERE b.agent_id = :agent_id AND b.batch_key < :before
  AND (c.goal_id IS DISTINCT FROM :goal_id OR c.counted_to < 2147483647)
ORDER BY b.batch_key DESC
LIMIT :limit;

-- name: count_goal_step(goal_id, batch_key, recipients)$
-- Counts some more recipients of a batch for a goal; returns whether recipients are left.
SELECT count_goal_step(:goal_id, :batch_key, :recipients);

-- name: finish_goal(goal_id)!
-- Records that all batches are counted for a goal.
UPDATE agent_goals SET counted_at = clock_timestamp() WHERE goal_id = :goal_id AND counted_at IS NULL;
