-- The versions of an agent's columns that an upload has used. A version whose uploads all failed binds nobody: nothing was
-- sent with its columns.
CREATE OR REPLACE FUNCTION binding_columns(p_agent_id bigint)
RETURNS SETOF agent_columns
LANGUAGE sql STABLE
AS $$
SELECT c.*
FROM agent_columns AS c
WHERE c.agent_id = p_agent_id
  AND EXISTS (
      SELECT FROM batches AS b
      WHERE b.agent_id = c.agent_id AND b.batch_key >= c.batch_key AND b.upload_state <> 'failed'
        AND b.columns @> c.columns AND b.columns <@ c.columns
  )
$$;
