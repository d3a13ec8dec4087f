-- Batches and their recipients. A recipient's row never changes; what happens to it is an outcome.

-- migrate:up
CREATE TABLE batches (
    batch_key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id         bigint UNIQUE,
    agent_id         bigint      NOT NULL,
    name             text        NOT NULL,
    status           text,
    total_recipients integer,
    created_at       timestamptz,
    prepared_at      timestamptz NOT NULL DEFAULT now(),
    upload_state     text        NOT NULL,
    upload_detail    text,
    upload_changed_at timestamptz NOT NULL DEFAULT now(),
    ref_token        text COLLATE "C" UNIQUE,
    ref_column       text,
    columns          text[]      NOT NULL,
    recipient_count  integer     NOT NULL DEFAULT 0,
    file_digest      bytea,
    CONSTRAINT batches_upload_state CHECK (upload_state IN ('prepared', 'uploading', 'uploaded', 'unknown', 'failed'))
);
COMMENT ON TABLE batches IS 'One row per batch, written before its upload begins.';
COMMENT ON COLUMN batches.batch_id IS 'The provider''s id; null until its answer to the upload is known.';
COMMENT ON COLUMN batches.status IS 'The provider''s word, whatever it is.';
COMMENT ON COLUMN batches.total_recipients IS 'The provider''s figure.';
COMMENT ON COLUMN batches.recipient_count IS 'How many recipients are stored here; they are numbered from 1 without gaps.';
COMMENT ON COLUMN batches.upload_state IS
    'prepared: stored, nothing sent. uploading: sending began. uploaded: the provider answered with an id. unknown: sent, no answer: it may be dialling, so it is never sent again by itself. failed: the provider refused it, nobody is dialled.';
COMMENT ON COLUMN batches.ref_token IS 'Random; with the recipient''s number it makes the reference that comes back in every webhook.';
CREATE INDEX batches_agent_id ON batches (agent_id, batch_id DESC);

CREATE TABLE recipients (
    batch_key    bigint  NOT NULL,
    recipient_no integer NOT NULL,
    phone        text COLLATE "C" NOT NULL,
    parameters   jsonb   NOT NULL,
    PRIMARY KEY (batch_key, recipient_no)
);
COMMENT ON TABLE recipients IS 'One row of the CSV each. No foreign keys here or below: every writer holds the ingest lock or stores a batch before anybody else can name it.';
CREATE INDEX recipients_phone ON recipients (phone, batch_key);

-- migrate:down
DROP TABLE recipients, batches;
