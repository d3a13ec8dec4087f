-- People who are signed in to the console, by an API key or by their company's sign-in.

-- compatible-from: 0032
-- migrate:up
CREATE TABLE console_users (
    user_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer            text COLLATE "C" NOT NULL,
    subject           text COLLATE "C" NOT NULL,
    name              text        NOT NULL,
    first_seen_at     timestamptz NOT NULL,
    last_signed_in_at timestamptz NOT NULL,
    CONSTRAINT console_users_identity UNIQUE (issuer, subject)
);
COMMENT ON TABLE console_users IS 'People who have signed in by OpenID Connect. Logs and the audit log name them as user: ID.';
COMMENT ON COLUMN console_users.issuer IS 'The provider that vouched for the person. Issuer and subject together identify somebody for ever.';
COMMENT ON COLUMN console_users.name IS 'As the provider gave it at the last sign-in; only shown.';

CREATE TABLE console_sessions (
    session_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_digest   bytea       NOT NULL UNIQUE,
    key_digest     bytea,
    user_id        bigint REFERENCES console_users,
    scopes         text[],
    sign_in_digest bytea UNIQUE,
    opened_at      timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    closed_at      timestamptz,
    CONSTRAINT console_sessions_opener CHECK ((key_digest IS NULL) <> (user_id IS NULL)),
    CONSTRAINT console_sessions_scopes CHECK ((scopes IS NULL) = (user_id IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE console_sessions IS 'Sessions of the console. A session of a key lasts no longer than the key, and has its scopes.';
COMMENT ON COLUMN console_sessions.token_digest IS 'SHA-256 of the token in the browser''s cookie, which is nowhere else.';
COMMENT ON COLUMN console_sessions.key_digest IS 'The digest of the key that opened it, also of the key in OUTCOMES_API_KEY.';
COMMENT ON COLUMN console_sessions.scopes IS 'What the person''s groups allowed at sign-in; null for a session of a key.';
COMMENT ON COLUMN console_sessions.sign_in_digest IS 'The sign-in by OpenID Connect that opened it, which can open only one.';
COMMENT ON COLUMN console_sessions.last_seen_at IS 'To the minute.';
COMMENT ON COLUMN console_sessions.expires_at IS 'The row is deleted after this time, closed or not.';
CREATE INDEX console_sessions_expires_at ON console_sessions (expires_at);

-- migrate:down
DROP TABLE console_sessions, console_users;
