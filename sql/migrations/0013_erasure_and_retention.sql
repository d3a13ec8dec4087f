-- Erasure of a person by phone, and what is kept for how long.

-- migrate:up
CREATE TABLE erasure_key (
    id  integer PRIMARY KEY CHECK (id = 1),
    key bytea   NOT NULL
);
COMMENT ON TABLE erasure_key IS
    'The key under which phones and calls of erased people are hashed. Phones are few enough to be tried one by one, so who may not know who was erased must not read this.';
INSERT INTO erasure_key (id, key)
VALUES (1, sha256(decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')));

CREATE TABLE erased_phones (
    phone_hash bytea PRIMARY KEY,
    erased_at  timestamptz NOT NULL
);
COMMENT ON TABLE erased_phones IS
    'Tombstones: by them a webhook is known that comes late, of a call from before its person was erased.';

CREATE TABLE erased_recipients (
    batch_key    bigint  NOT NULL,
    recipient_no integer NOT NULL,
    phone_hash   bytea   NOT NULL,
    erased_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (batch_key, recipient_no)
);
COMMENT ON TABLE erased_recipients IS 'Recipients that are erased: they still count, and nothing tells who they were.';
CREATE INDEX erased_recipients_phone_hash ON erased_recipients (phone_hash, batch_key);

CREATE TABLE erasures (
    erasure_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phone        text COLLATE "C",
    phone_hash   bytea       NOT NULL,
    actor        text        NOT NULL,
    key_id       bigint,
    step         text        NOT NULL DEFAULT 'recipients',
    cursor       bigint      NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    recipients   integer     NOT NULL DEFAULT 0,
    bodies       integer     NOT NULL DEFAULT 0,
    unattributed integer     NOT NULL DEFAULT 0,
    quarantined  integer     NOT NULL DEFAULT 0,
    held_rows    integer     NOT NULL DEFAULT 0,
    CONSTRAINT erasures_step CHECK (step IN ('recipients', 'unattributed', 'quarantine', 'held', 'late', 'done')),
    CONSTRAINT erasures_phone CHECK ((phone IS NULL) = (step = 'done'))
);
COMMENT ON TABLE erasures IS 'How far each erasure has come; any replica takes the next step. Afterwards nothing in it tells who it was.';
COMMENT ON COLUMN erasures.phone IS 'Only until it is done.';
COMMENT ON COLUMN erasures.step IS
    'recipients, unattributed, quarantine, held (files of held batches), late (what was on its way in when it began), done.';
CREATE INDEX erasures_unfinished ON erasures (erasure_id) WHERE step <> 'done';
CREATE INDEX erasures_phone_hash ON erasures (phone_hash);

ALTER TABLE recipients ALTER COLUMN phone DROP NOT NULL;
COMMENT ON COLUMN recipients.phone IS 'Null once it was erased, or has been kept for long enough.';
ALTER TABLE quarantine ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN quarantine.erased_at IS 'When its body was emptied, since it named a person who was erased; its digest stays, so it does not come again.';
ALTER TABLE batches ADD COLUMN people_cursor integer, ADD COLUMN people_forgotten_at timestamptz;
COMMENT ON COLUMN batches.people_forgotten_at IS 'When the last of its phones and parameters went, having been kept for long enough.';
COMMENT ON COLUMN batches.people_cursor IS 'How far that has come: after this recipient.';
CREATE INDEX unattributed_phone ON unattributed (phone, arrival_id);
CREATE INDEX quarantine_last_received_at ON quarantine (last_received_at);
CREATE INDEX provider_metrics_last_seen_at ON provider_metrics (last_seen_at);
CREATE INDEX batches_people ON batches (prepared_at) WHERE people_forgotten_at IS NULL;

-- migrate:down
DROP INDEX batches_people, provider_metrics_last_seen_at, quarantine_last_received_at, unattributed_phone;
ALTER TABLE batches DROP COLUMN people_cursor, DROP COLUMN people_forgotten_at;
ALTER TABLE quarantine DROP COLUMN erased_at;
UPDATE recipients SET phone = '' WHERE phone IS NULL;
ALTER TABLE recipients ALTER COLUMN phone SET NOT NULL;
DROP TABLE erasures, erased_recipients, erased_phones, erasure_key;
