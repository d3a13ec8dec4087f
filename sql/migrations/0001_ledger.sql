-- The ledger: what the provider sent, exactly as it came, and nothing derived from it.

-- migrate:up
CREATE SEQUENCE arrival_ids;

CREATE TABLE events (
    event_id    text COLLATE "C" PRIMARY KEY,
    arrival_id  bigint      NOT NULL,
    digest      bytea       NOT NULL,
    event_type  text        NOT NULL,
    target      text        NOT NULL,
    received_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL
);
COMMENT ON TABLE events IS
    'One row per event id ever acknowledged: what makes a second delivery a duplicate. Rows are only ever inserted, and outlive the bodies.';
COMMENT ON COLUMN events.arrival_id IS 'Names this body in event_bodies, facts and unattributed.';
COMMENT ON COLUMN events.digest IS 'SHA-256 of the raw body.';
COMMENT ON COLUMN events.target IS 'The inbound address it came to.';
COMMENT ON COLUMN events.received_at IS 'When the service had read the request.';
COMMENT ON COLUMN events.recorded_at IS 'When it was committed; the key of the body''s partition.';

CREATE TABLE event_conflicts (
    event_id    text COLLATE "C" NOT NULL,
    digest      bytea            NOT NULL,
    arrival_id  bigint           NOT NULL,
    event_type  text             NOT NULL,
    target      text             NOT NULL,
    received_at timestamptz      NOT NULL,
    recorded_at timestamptz      NOT NULL,
    PRIMARY KEY (event_id, digest)
);
COMMENT ON TABLE event_conflicts IS
    'A known event id that came again with another body. The body is kept, and its facts are merged by the same fixed order, so that which of the two came first decides nothing.';

CREATE TABLE event_bodies (
    arrival_id  bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    body        bytea       NOT NULL,
    PRIMARY KEY (arrival_id, recorded_at)
) PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE event_bodies IS 'Raw bodies, byte for byte, in one partition per month of arrival: old ones go by dropping a partition.';

-- Only there so that an arrival is never refused should the months ahead ever be missing.
CREATE TABLE event_bodies_default PARTITION OF event_bodies DEFAULT;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        ALTER TABLE event_bodies ALTER COLUMN body SET COMPRESSION lz4;
        ALTER TABLE event_bodies_default ALTER COLUMN body SET COMPRESSION lz4;
    END IF;
END $$;

CREATE TABLE quarantine (
    quarantine_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id         text COLLATE "C",
    target           text        NOT NULL,
    reason           text        NOT NULL,
    detail           text        NOT NULL,
    digest           bytea       NOT NULL,
    body             bytea       NOT NULL,
    deliveries       integer     NOT NULL DEFAULT 1,
    received_at      timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    replayed_at      timestamptz,
    CONSTRAINT quarantine_body UNIQUE (target, digest)
);
COMMENT ON TABLE quarantine IS
    'What was correctly signed and could not be understood, or was refused by the database: kept whole until a fix lets it be replayed.';
COMMENT ON COLUMN quarantine.event_id IS 'From the body where it has one, else from the unsigned header; only a hint.';
COMMENT ON COLUMN quarantine.replayed_at IS 'When a replay brought it into the ledger; null while it waits.';
CREATE INDEX quarantine_event_id ON quarantine (event_id) WHERE replayed_at IS NULL;
CREATE INDEX quarantine_waiting ON quarantine (quarantine_id) WHERE replayed_at IS NULL;

CREATE TABLE heartbeat (
    id      integer PRIMARY KEY CHECK (id = 1),
    beat_at timestamptz NOT NULL
);
COMMENT ON TABLE heartbeat IS 'One row, written by the readiness probe: proof that commits go through.';

-- migrate:down
DROP TABLE heartbeat, quarantine, event_bodies, event_conflicts, events;
DROP SEQUENCE arrival_ids;
