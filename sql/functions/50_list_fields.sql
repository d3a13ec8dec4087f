-- The call parameters and results that an agent's recipients really have, by agent id: what a reader of the feed can map.
-- Read from the agent's newest p_batches batches, with at most p_names names each, so that the cost is bounded. For a batch
-- whose file is unknown, those of its first recipients.
CREATE OR REPLACE FUNCTION list_fields(
    p_agent_id bigint, p_after bigint, p_limit integer, p_batches integer, p_names integer
)
RETURNS TABLE (agent_id bigint, parameters text[], results text[])
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
WITH RECURSIVE agents AS (
    -- From one agent to the next by index, however many batches they have.
    (SELECT b.agent_id, 1 AS nth
     FROM batches AS b
     WHERE b.agent_id > coalesce(p_after, -1) AND b.agent_id >= coalesce(p_agent_id, 0)
     ORDER BY b.agent_id LIMIT 1)
    UNION ALL
    SELECT n.agent_id, a.nth + 1
    FROM agents AS a
    CROSS JOIN LATERAL (
        SELECT b.agent_id FROM batches AS b WHERE b.agent_id > a.agent_id ORDER BY b.agent_id LIMIT 1
    ) AS n
    WHERE a.nth < p_limit AND p_agent_id IS NULL
), newest AS MATERIALIZED (
    SELECT b.*
    FROM agents AS a
    CROSS JOIN LATERAL (
        SELECT b.agent_id, b.batch_key, b.columns, b.is_registered
        FROM batches AS b
        -- A range, not equality: then only the agent's index gives the order, never the index of all batches.
        WHERE b.agent_id BETWEEN a.agent_id AND a.agent_id
        ORDER BY b.agent_id, b.batch_id DESC LIMIT p_batches
    ) AS b
), named AS (
    SELECT a.agent_id, c.name
    FROM agents AS a
    JOIN agent_columns AS g ON g.agent_id = a.agent_id
    CROSS JOIN LATERAL unnest(g.columns) AS c (name)
    WHERE c.name <> 'customer_phone'
    UNION
    SELECT n.agent_id, c.name
    FROM newest AS n
    CROSS JOIN LATERAL unnest(n.columns) AS c (name)
    WHERE c.name <> 'customer_phone'
    UNION
    SELECT n.agent_id, k.name
    FROM newest AS n
    CROSS JOIN LATERAL (
        SELECT r.parameters
        FROM recipients AS r
        WHERE NOT n.is_registered AND r.batch_key = n.batch_key
        ORDER BY r.recipient_no LIMIT 20
    ) AS r
    CROSS JOIN LATERAL jsonb_object_keys(
        CASE WHEN jsonb_typeof(r.parameters) = 'object' THEN r.parameters ELSE '{}' END
    ) AS k (name)
), seen AS (
    SELECT DISTINCT n.agent_id, t.name
    FROM newest AS n
    CROSS JOIN LATERAL (
        SELECT t.name FROM result_totals AS t WHERE t.batch_key = n.batch_key ORDER BY t.name LIMIT p_names
    ) AS t
)
SELECT a.agent_id,
       ARRAY(SELECT n.name FROM named AS n WHERE n.agent_id = a.agent_id ORDER BY n.name LIMIT p_names),
       ARRAY(SELECT s.name FROM seen AS s WHERE s.agent_id = a.agent_id ORDER BY s.name LIMIT p_names)
FROM agents AS a
WHERE p_agent_id IS NULL OR a.agent_id = p_agent_id
ORDER BY a.agent_id
$$;
