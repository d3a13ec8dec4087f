-- name: keep_user(issuer, subject, name, now)^
-- Notes the sign-in of a person whom an OpenID provider vouches for; returns the person's id.
INSERT INTO console_users AS u (issuer, subject, name, first_seen_at, last_signed_in_at)
VALUES (:issuer, :subject, :name, :now, :now)
ON CONFLICT (issuer, subject)
    DO UPDATE SET name = excluded.name, last_signed_in_at = greatest(u.last_signed_in_at, excluded.last_signed_in_at)
RETURNING user_id;

-- name: open_session(token_digest, key_digest, user_id, scopes, sign_in_digest, now, expires_at)$
-- Stores a new session; returns its id, or nothing when this sign-in has opened one before.
INSERT INTO console_sessions
    (token_digest, key_digest, user_id, scopes, sign_in_digest, opened_at, last_seen_at, expires_at)
VALUES (:token_digest, :key_digest, :user_id, :scopes, :sign_in_digest, :now, :now, :expires_at)
ON CONFLICT (sign_in_digest) DO NOTHING
RETURNING session_id;

-- name: find_sessions(token_digests)
-- The sessions with these tokens that are not closed.
SELECT s.session_id, s.token_digest, s.key_digest, s.user_id, u.issuer, u.name, s.scopes, s.last_seen_at, s.expires_at
FROM console_sessions AS s
LEFT JOIN console_users AS u USING (user_id)
WHERE s.token_digest = ANY (:token_digests::bytea[]) AND s.closed_at IS NULL;

-- name: find_ended_session(token_digest)^
-- What is known of the session with this token, closed or not.
SELECT s.key_digest, s.user_id, u.issuer, u.name, s.scopes, s.expires_at, s.closed_at
FROM console_sessions AS s
LEFT JOIN console_users AS u USING (user_id)
WHERE s.token_digest = :token_digest;

-- name: list_sessions(now, idle_seconds, before, limit)
-- Sessions that are neither closed nor expired, newest first, before a given one.
SELECT s.session_id, s.key_digest, s.user_id, u.issuer, u.name, s.scopes, s.opened_at, s.last_seen_at, s.expires_at
FROM console_sessions AS s
LEFT JOIN console_users AS u USING (user_id)
WHERE s.session_id < :before AND s.closed_at IS NULL AND s.expires_at > :now
  AND s.last_seen_at > :now - make_interval(secs => :idle_seconds::double precision)
ORDER BY s.session_id DESC
LIMIT :limit;

-- name: close_session(session_id, token_digest, now)$
-- Closes the session with this id or token; returns its id, or nothing when it is closed already.
UPDATE console_sessions SET closed_at = :now
WHERE closed_at IS NULL AND (session_id = :session_id OR token_digest = :token_digest)
RETURNING session_id;

-- name: note_sessions_seen(session_ids, seen_at)!
-- Records when sessions were last used.
UPDATE console_sessions AS s SET last_seen_at = u.seen_at
FROM unnest(:session_ids::bigint[], :seen_at::timestamptz[]) AS u (session_id, seen_at)
WHERE s.session_id = u.session_id AND s.last_seen_at < u.seen_at;

-- name: forget_sessions(now, rows)$
-- Deletes some sessions that have expired; returns how many.
WITH gone AS (
    DELETE FROM console_sessions
    WHERE session_id IN (SELECT session_id FROM console_sessions WHERE expires_at <= :now ORDER BY expires_at LIMIT :rows)
    RETURNING 1
)
SELECT count(*)::integer FROM gone;
