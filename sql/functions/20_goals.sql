-- The goal in force for each batch that has one: its campaign's, or else its agent's. THE rule for which goal counts;
-- find_goal_as_of() is the same for an earlier time. A view, because readers of bi may not call functions that read tables.
CREATE OR REPLACE VIEW batch_goals AS
SELECT b.batch_key, g.goal_id, g.rule, g.set_at
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT n.*
    FROM ((SELECT 1 AS place, k.* FROM agent_goals AS k
           WHERE k.campaign_key = b.campaign_key ORDER BY k.goal_id DESC LIMIT 1)
          UNION ALL
          (SELECT 2, k.* FROM agent_goals AS k WHERE k.agent_id = b.agent_id ORDER BY k.goal_id DESC LIMIT 1)) AS n
    WHERE n.rule IS NOT NULL
    ORDER BY n.place
    LIMIT 1
) AS g;

CREATE OR REPLACE FUNCTION find_goal_as_of(p_batch_key bigint, p_as_of timestamptz)
RETURNS TABLE (goal_id bigint, rule jsonb, set_at timestamptz)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT n.goal_id, n.rule, n.set_at
FROM batches AS b
CROSS JOIN LATERAL (
    (SELECT 1 AS place, k.* FROM agent_goals AS k
     WHERE k.campaign_key = b.campaign_key AND k.set_at <= p_as_of ORDER BY k.goal_id DESC LIMIT 1)
    UNION ALL
    (SELECT 2, k.* FROM agent_goals AS k
     WHERE k.agent_id = b.agent_id AND k.set_at <= p_as_of ORDER BY k.goal_id DESC LIMIT 1)
) AS n
WHERE b.batch_key = p_batch_key AND n.rule IS NOT NULL
ORDER BY n.place
LIMIT 1
$$;

-- The goal in force for a batch, and how many of its recipients meet it: null while that is being counted. A batch without
-- facts has none.
DROP FUNCTION IF EXISTS count_goal(bigint, bigint);
CREATE OR REPLACE FUNCTION count_goal(p_batch_key bigint)
RETURNS TABLE (goal_id bigint, rule jsonb, set_at timestamptz, recipients bigint)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT g.goal_id, g.rule, g.set_at,
       CASE WHEN c.goal_id = g.goal_id AND c.counted_to = 2147483647 THEN c.recipients
            WHEN c.goal_id IS NULL
                 AND NOT EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = p_batch_key) THEN 0 END
FROM batch_goals AS g
LEFT JOIN LATERAL (SELECT * FROM goal_counts AS k WHERE k.batch_key = p_batch_key OFFSET 0) AS c ON true
WHERE g.batch_key = p_batch_key
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
SELECT g.batch_key, g.goal_id, g.rule, 2147483647, true
FROM batch_goals AS g
WHERE g.batch_key = p_batch_key
  AND NOT EXISTS (SELECT FROM goal_counts AS c WHERE c.batch_key = p_batch_key)
  AND NOT EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = p_batch_key)
$$;
DROP FUNCTION IF EXISTS find_goal(bigint);
