-- name: list_live_keys()
-- Every key that grants access, by its digest.
SELECT key_id, name, digest, scopes, expires_at
FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp());

-- name: count_live_keys()$
-- The number of keys that are neither revoked nor expired.
SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp());

-- name: lock_keys()!
-- One change of the keys at a time.
LOCK TABLE api_keys_lock IN SHARE UPDATE EXCLUSIVE MODE;

-- name: free_key_name(name)!
-- Frees the name of an expired key.
UPDATE api_keys SET revoked_at = expires_at
WHERE name = :name AND revoked_at IS NULL AND expires_at <= clock_timestamp();

-- name: insert_key(name, digest, hint, scopes, lifetime_seconds)^
-- Stores a new key; without a lifetime it does not expire.
INSERT INTO api_keys (name, digest, hint, scopes, expires_at)
VALUES (:name, :digest, :hint, :scopes, clock_timestamp() + make_interval(secs => :lifetime_seconds::double precision))
RETURNING key_id, name, hint, scopes, created_at, expires_at;

-- name: list_keys(limit)
-- All keys, revoked and expired ones included, newest first.
SELECT key_id, name, hint, scopes, created_at, expires_at, revoked_at, last_used_at,
       revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true) AS is_live
FROM api_keys
ORDER BY key_id DESC
LIMIT :limit;

-- name: revoke_key(name, key_id)^
-- Revokes the key with this name or id; returns nothing when there is none, or it is revoked already.
UPDATE api_keys SET revoked_at = clock_timestamp()
WHERE revoked_at IS NULL AND (name = :name OR key_id = :key_id)
RETURNING key_id, name;

-- name: note_key_uses(key_ids, used_at)!
-- Records when keys were last used: at most once a minute for each, however many replicas report it.
UPDATE api_keys AS k SET last_used_at = u.used_at
FROM (SELECT key_id, max(used_at) AS used_at
      FROM unnest(:key_ids::bigint[], :used_at::timestamptz[]) AS t (key_id, used_at) GROUP BY key_id) AS u
WHERE k.key_id = u.key_id AND coalesce(k.last_used_at < u.used_at - interval '1 minute', true);

-- name: record_audit(actor, key_id, request_id, action, subject, outcome, details)!
-- Adds a line to the audit log.
INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
VALUES (:actor, :key_id, :request_id, :action, :subject, :outcome, :details);

-- name: list_audit(before, action, actor, searched, limit)
-- Lines of the audit log, newest first, before a given one: of those among the next :searched lines that have the action
-- and the actor; null for any.
SELECT audit_id, recorded_at, actor, key_id, request_id, action, subject, outcome, details
FROM (SELECT * FROM audit_log WHERE audit_id < :before ORDER BY audit_id DESC LIMIT :searched) AS l
WHERE action = coalesce(:action, action) AND actor = coalesce(:actor, actor)
ORDER BY audit_id DESC
LIMIT :limit;

-- name: find_audit_end(before, searched)$
-- The last of the next :searched lines of the audit log; null if there are fewer.
SELECT audit_id FROM audit_log WHERE audit_id < :before ORDER BY audit_id DESC OFFSET :searched - 1 LIMIT 1;
