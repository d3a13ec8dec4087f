-- Whether an unattributed event asks somebody to decide: a webhook does, since the provider reports a call that has no place
-- here. What healing has read from the provider's list does not: the list has all calls of the agent, and those without a
-- place in a batch are left there; a few are stored, because evidence took their place away later. They are placed if
-- they fit again, and the reasons of their batch's verdict count them meanwhile. Null: a webhook of an older version.
CREATE OR REPLACE FUNCTION is_question(p_source text) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
SELECT p_source IS DISTINCT FROM 'healed'
$$;
