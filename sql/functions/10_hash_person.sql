-- What stands for something that is erased: the same for the same value, and nothing to who does not hold the key.
-- Hashed twice under the key, as HMAC does, so that nothing can be appended to what was hashed.
CREATE OR REPLACE FUNCTION hash_person(p_kind text, p_value text) RETURNS bytea
LANGUAGE sql STABLE STRICT
SECURITY DEFINER  -- who runs the service uses the key, and cannot read it
SET search_path = public, pg_temp
AS $$
SELECT sha256(k.key || sha256(k.key || convert_to(p_kind || ':' || p_value, 'UTF8'))) FROM erasure_key AS k WHERE k.id = 1
$$;

-- A call's conversation id, once its person is erased: its attempts still belong together.
CREATE OR REPLACE FUNCTION hash_call(p_conversation_id text) RETURNS text
LANGUAGE sql STABLE STRICT
AS $$
SELECT 'erased-' || left(encode(hash_person('call', p_conversation_id), 'hex'), 40)
$$;
