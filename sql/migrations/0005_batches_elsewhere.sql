-- Batches made elsewhere (in the provider's dashboard), and the registration of their CSV.

-- migrate:up
ALTER TABLE batches
    ADD COLUMN origin          text    NOT NULL DEFAULT 'upload',
    ADD COLUMN is_registered   boolean NOT NULL DEFAULT true,
    ADD COLUMN closed_at       timestamptz,
    ADD COLUMN withdrawn_count integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT batches_origin CHECK (origin IN ('upload', 'provider'));
COMMENT ON COLUMN batches.origin IS 'upload: ours. provider: made elsewhere, known from the provider''s list.';
COMMENT ON COLUMN batches.is_registered IS 'False: its CSV is not known, so its recipients are made on the fly.';
COMMENT ON COLUMN batches.closed_at IS 'When we saw that the provider had finished an unregistered batch; its window ends then.';
COMMENT ON COLUMN batches.withdrawn_count IS 'Recipients made on the fly that its CSV did not hold; they count for nothing.';
CREATE INDEX batches_window ON batches (agent_id, (coalesce(closed_at, 'infinity'::timestamptz))) WHERE NOT is_registered;

ALTER TABLE recipients ADD COLUMN withdrawn_at timestamptz;
COMMENT ON COLUMN recipients.withdrawn_at IS 'When a registered CSV turned out not to hold this recipient, made on the fly.';

CREATE TABLE registrations (
    batch_key   bigint  PRIMARY KEY,
    step        text    NOT NULL,
    cursor      bigint  NOT NULL DEFAULT 0,
    file_digest bytea,
    columns     text[],
    recipients  integer NOT NULL DEFAULT 0,
    matched     integer NOT NULL DEFAULT 0,
    withdrawn   integer NOT NULL DEFAULT 0,
    attributed  integer NOT NULL DEFAULT 0,
    CONSTRAINT registrations_step CHECK (step IN ('match', 'withdraw', 'retry', 'done'))
);
COMMENT ON TABLE registrations IS 'How far the registration of a batch made elsewhere has come; any replica may take the next step.';
COMMENT ON COLUMN registrations.step IS
    'match: staged rows find their recipients. withdraw: recipients that the file does not hold are taken out. retry: waiting events are tried again (a batch just discovered begins here). done: nothing is left to do.';
COMMENT ON COLUMN registrations.cursor IS 'Where the step goes on: after this staged row, recipient or arrival.';
CREATE INDEX registrations_unfinished ON registrations (batch_key) WHERE step <> 'done';

CREATE TABLE staged_recipients (
    batch_key    bigint  NOT NULL,
    row_no       integer NOT NULL,
    phone        text COLLATE "C" NOT NULL,
    parameters   jsonb   NOT NULL,
    recipient_no integer,
    PRIMARY KEY (batch_key, row_no)
);
COMMENT ON TABLE staged_recipients IS 'Rows of a CSV while it is being registered, each with the recipient it became.';
CREATE INDEX staged_recipients_phone ON staged_recipients (batch_key, phone);
CREATE INDEX staged_recipients_no ON staged_recipients (batch_key, recipient_no);

CREATE INDEX unattributed_agent_arrival ON unattributed (agent_id, arrival_id);

CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE leases IS 'Who does what only one replica should do at a time, and until when it is theirs.';

-- migrate:down
DROP TABLE leases, staged_recipients, registrations;
DROP INDEX unattributed_agent_arrival, batches_window;
ALTER TABLE recipients DROP COLUMN withdrawn_at;
ALTER TABLE batches DROP COLUMN origin, DROP COLUMN is_registered, DROP COLUMN closed_at, DROP COLUMN withdrawn_count;
