-- Whether another event of the same call, which no reference names either, names another phone: then nothing says who was
-- called. So it is with an inbound call, whose webhook names the agent's own number and whose conversation the person's. Text
-- that is not a number contradicts none.
CREATE OR REPLACE FUNCTION contradicts_phone(
    p_agent_id bigint, p_phone text, p_conversation_id text, p_started_at timestamptz, p_called_at timestamptz,
    p_until timestamptz, p_attempt_number integer, p_parameters jsonb
) RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT p_phone ~ '^[+][1-9][0-9]{6,14}$' AND EXISTS (
    SELECT FROM (SELECT * FROM unreferenced_events AS k WHERE k.conversation_id = p_conversation_id OFFSET 0) AS u
    WHERE u.agent_id = p_agent_id
      AND u.phone <> p_phone AND u.phone ~ '^[+][1-9][0-9]{6,14}$'
      AND is_same_call(
          p_started_at, p_called_at, p_until, p_attempt_number, nullif(comparable_parameters(p_parameters), '{}'),
          u.started_at, u.called_at, u.until, u.attempt_number, nullif(comparable_parameters(u.parameters), '{}')))
$$;
