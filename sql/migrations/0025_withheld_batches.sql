-- Batches that are not shown, since they may be an upload whose outcome is unknown. Calls may be theirs all the same.

-- compatible-from: 0016
-- migrate:up
CREATE TABLE withheld_batches (
    batch_id         bigint PRIMARY KEY,
    agent_id         bigint      NOT NULL,
    upload_key       bigint      NOT NULL,
    total_recipients integer,
    since            timestamptz NOT NULL
);
COMMENT ON TABLE withheld_batches IS
    'Batches of the provider''s list that may be an unknown upload (upload_key), so that they are not noted as made elsewhere. A call that may be theirs is placed in no other window.';
COMMENT ON COLUMN withheld_batches.since IS 'When the provider made it, else when it was first seen.';
CREATE INDEX withheld_batches_agent_id ON withheld_batches (agent_id);
CREATE INDEX withheld_batches_upload_key ON withheld_batches (upload_key);

-- migrate:down
DROP TABLE withheld_batches;
