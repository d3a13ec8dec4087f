-- The pseudonym of an erased value: the same for the same value, and meaningless without the key. Hashed twice under the
-- key, as HMAC does, so that nothing can be appended to the hashed text.
CREATE OR REPLACE FUNCTION hash_person(p_kind text, p_value text) RETURNS bytea
LANGUAGE sql STABLE STRICT
SECURITY DEFINER  -- the service's role uses the key but cannot read it
SET search_path = public, pg_temp
AS $$
SELECT sha256(k.key || sha256(k.key || convert_to(p_kind || ':' || p_value, 'UTF8'))) FROM erasure_key AS k WHERE k.id = 1
$$;

-- The conversation id of a call whose person is erased: its attempts still belong together.
CREATE OR REPLACE FUNCTION hash_call(p_conversation_id text) RETURNS text
LANGUAGE sql STABLE STRICT
AS $$
SELECT 'erased-' || left(encode(hash_person('call', p_conversation_id), 'hex'), 40)
$$;
