-- The goal in force for an agent, if any.
CREATE OR REPLACE FUNCTION find_goal(p_agent_id bigint)
RETURNS TABLE (goal_id bigint, rule jsonb, set_at timestamptz, actor text, counted_at timestamptz)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT g.goal_id, g.rule, g.set_at, g.actor, g.counted_at
FROM (SELECT * FROM agent_goals AS k WHERE k.agent_id = p_agent_id ORDER BY k.goal_id DESC LIMIT 1) AS g
WHERE g.rule IS NOT NULL
$$;

-- The goal in force for a batch, and how many of its recipients meet it: null while that is being counted. A batch without
-- facts has none.
CREATE OR REPLACE FUNCTION count_goal(p_batch_key bigint, p_agent_id bigint)
RETURNS TABLE (goal_id bigint, rule jsonb, set_at timestamptz, recipients bigint)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT g.goal_id, g.rule, g.set_at,
       CASE WHEN c.goal_id = g.goal_id AND c.counted_to = 2147483647 THEN c.recipients
            WHEN c.goal_id IS NULL
                 AND NOT EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = p_batch_key) THEN 0 END
FROM find_goal(p_agent_id) AS g
LEFT JOIN LATERAL (SELECT * FROM goal_counts AS k WHERE k.batch_key = p_batch_key OFFSET 0) AS c ON true
$$;

-- Which goal apply_facts() counts for a batch, and up to which recipient. Under the ingest lock. A batch that has its first
-- facts now is counted from its first recipient on; one that had facts when the first goal was set waits for its turn.
CREATE OR REPLACE FUNCTION counted_goal(p_batch_key bigint)
RETURNS TABLE (batch_key bigint, goal_id bigint, rule jsonb, counted_to integer, is_new boolean)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT c.batch_key, c.goal_id, g.rule, c.counted_to, false
FROM goal_counts AS c
JOIN agent_goals AS g ON g.goal_id = c.goal_id
WHERE c.batch_key = p_batch_key
UNION ALL
SELECT b.batch_key, g.goal_id, g.rule, 2147483647, true
FROM batches AS b
CROSS JOIN LATERAL find_goal(b.agent_id) AS g
WHERE b.batch_key = p_batch_key
  AND NOT EXISTS (SELECT FROM goal_counts AS c WHERE c.batch_key = p_batch_key)
  AND NOT EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = p_batch_key)
$$;
