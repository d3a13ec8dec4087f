-- Uploads that never dial twice: their steps, who works on them, their keys; column contracts; test batches.

-- migrate:up
ALTER TABLE batches DROP CONSTRAINT batches_upload_state;
ALTER TABLE batches ADD CONSTRAINT batches_upload_state
    CHECK (upload_state IN ('preparing', 'prepared', 'held', 'uploading', 'uploaded', 'unknown', 'failed'));
COMMENT ON COLUMN batches.upload_state IS
    'preparing: its file is being checked. prepared: stored, nothing sent. held: stored, waits for the promotion of its test batch. uploading: sending began. uploaded: the provider answered with an id. unknown: sent, no answer: it may be dialling, so it is looked for and never sent again by itself. failed: nobody is dialled.';

ALTER TABLE batches
    ADD COLUMN leased_until    timestamptz,
    ADD COLUMN rows_checked    integer,
    ADD COLUMN sent_at         timestamptz,
    ADD COLUMN idempotency_key text COLLATE "C",
    ADD COLUMN request_digest  bytea,
    ADD COLUMN next_lookup_at  timestamptz,
    ADD COLUMN lookups         integer NOT NULL DEFAULT 0,
    ADD COLUMN campaign_key    bigint,
    ADD COLUMN campaign_role   text,
    ADD COLUMN promote_at_success_rate numeric,
    ADD CONSTRAINT batches_campaign_role CHECK (campaign_role IN ('test', 'main')),
    ADD CONSTRAINT batches_campaign CHECK ((campaign_key IS NULL) = (campaign_role IS NULL)),
    ADD CONSTRAINT batches_promotion CHECK (promote_at_success_rate BETWEEN 0 AND 100);
COMMENT ON COLUMN batches.leased_until IS
    'Whoever prepares or sends it renews this; once it has passed they are gone, and what they left is settled by whoever sees it first.';
COMMENT ON COLUMN batches.rows_checked IS 'How far the check of its file is.';
COMMENT ON COLUMN batches.sent_at IS 'When sending began: what the provider made of it was made after that.';
COMMENT ON COLUMN batches.idempotency_key IS 'Our caller''s; given up once the upload has failed, so that they can try again.';
COMMENT ON COLUMN batches.request_digest IS 'Of all that the caller asked for: the same key with another request is refused.';
COMMENT ON COLUMN batches.next_lookup_at IS 'When an unknown upload is looked for next in the provider''s list.';
COMMENT ON COLUMN batches.campaign_key IS 'The key of the main batch, for a test batch and its main batch; null otherwise.';
COMMENT ON COLUMN batches.promote_at_success_rate IS 'Of a main batch: it is sent by itself once its test batch is complete with this success rate, in percent.';
CREATE UNIQUE INDEX batches_idempotency_key ON batches (idempotency_key);
CREATE INDEX batches_file_digest ON batches (file_digest, prepared_at);
CREATE INDEX batches_campaign_key ON batches (campaign_key) WHERE campaign_key IS NOT NULL;
CREATE INDEX batches_unfinished ON batches (upload_state, leased_until)
    WHERE upload_state IN ('preparing', 'prepared', 'held', 'uploading', 'unknown');

CREATE TABLE agent_columns (
    agent_id   bigint      NOT NULL,
    version    integer     NOT NULL,
    columns    text[]      NOT NULL,
    batch_key  bigint      NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent_id, version)
);
COMMENT ON TABLE agent_columns IS 'The columns that an agent''s files have, by version: the latest binds. Rows are only added.';
COMMENT ON COLUMN agent_columns.batch_key IS 'The upload that brought them.';

CREATE TABLE held_files (
    batch_key bigint  NOT NULL,
    part_no   integer NOT NULL,
    content   bytea   NOT NULL,
    PRIMARY KEY (batch_key, part_no)
);
COMMENT ON TABLE held_files IS 'The CSV of a held batch as it will be sent, in parts; deleted once it was.';

-- migrate:down
DROP TABLE held_files, agent_columns;
DROP INDEX batches_unfinished, batches_campaign_key, batches_file_digest, batches_idempotency_key;
DELETE FROM batches WHERE upload_state IN ('preparing', 'held');
ALTER TABLE batches DROP CONSTRAINT batches_upload_state, DROP CONSTRAINT batches_campaign_role,
    DROP CONSTRAINT batches_campaign, DROP CONSTRAINT batches_promotion,
    DROP COLUMN leased_until, DROP COLUMN rows_checked, DROP COLUMN sent_at, DROP COLUMN idempotency_key,
    DROP COLUMN request_digest, DROP COLUMN next_lookup_at, DROP COLUMN lookups, DROP COLUMN campaign_key,
    DROP COLUMN campaign_role, DROP COLUMN promote_at_success_rate;
ALTER TABLE batches ADD CONSTRAINT batches_upload_state
    CHECK (upload_state IN ('prepared', 'uploading', 'uploaded', 'unknown', 'failed'));
