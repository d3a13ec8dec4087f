-- What rules say about the call of an event: kind and person of each event of that call for which a rule knows that the call
-- is outside batches. Events are of one call by agent, conversation and time (see is_same_call()), whatever their phones: an
-- inbound call's webhook names the agent's own number, and its conversation the person's.
--
-- Without SET, so that it becomes part of the query that uses it.
CREATE OR REPLACE FUNCTION find_rulings(
    p_agent_id bigint, p_conversation_id text, p_started_at timestamptz, p_called_at timestamptz, p_until timestamptz,
    p_attempt_number integer, p_parameters jsonb
)
RETURNS TABLE (kind text, phone text)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT o.kind, o.phone
FROM other_events AS o
WHERE o.conversation_id = p_conversation_id AND o.agent_id = p_agent_id AND o.is_ruled
  AND is_same_call(
      p_started_at, p_called_at, p_until, p_attempt_number, nullif(comparable_parameters(p_parameters), '{}'),
      o.started_at, coalesce(o.started_at, o.ended_at, o.occurred_at), greatest(o.started_at, o.ended_at, o.occurred_at),
      o.attempt_number, nullif(comparable_parameters(o.parameters), '{}'))
$$;
