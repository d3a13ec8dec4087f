-- API keys beside the one of the settings, and the log of what people and keys did.

-- migrate:up
CREATE TABLE api_keys (
    key_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL,
    digest       bytea       NOT NULL UNIQUE,
    hint         text        NOT NULL,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ '{read,upload,feed,admin}'::text[])
);
COMMENT ON TABLE api_keys IS 'Keys for the HTTP API. A key itself is nowhere: it is shown once, when it is made.';
COMMENT ON COLUMN api_keys.digest IS
    'SHA-256 of the key. A slow, salted hash protects what people choose; a key of 256 random bits cannot be guessed, however fast the guesses.';
COMMENT ON COLUMN api_keys.hint IS 'How the key begins: to tell which of several a program has.';
COMMENT ON COLUMN api_keys.last_used_at IS 'To the minute: written beside the requests, not by them.';
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE audit_log (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor       text        NOT NULL,
    key_id      bigint,
    action      text COLLATE "C" NOT NULL,
    subject     text        NOT NULL,
    outcome     text        NOT NULL,
    details     jsonb       NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE audit_log IS
    'Who did what to what, and what came of it. Rows are only ever inserted, until they have been kept for long enough; no row names a person.';
COMMENT ON COLUMN audit_log.actor IS
    'key: NAME, setting (the key of OUTCOMES_API_KEY), command line, or service (by itself).';
COMMENT ON COLUMN audit_log.details IS 'Numbers and ids only.';
CREATE INDEX audit_log_recorded_at ON audit_log (recorded_at);

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% is insert-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_insert_only BEFORE UPDATE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate:down
DROP TABLE audit_log, api_keys;
DROP FUNCTION refuse_change();
