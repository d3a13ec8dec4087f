-- Events that no reference names are placed by their phone, or by the window of a batch. That is evidence, not proof: it is
-- kept, so that such an event is placed again whenever the recipients it may belong to change.

-- compatible-from: 0016
-- migrate:up
CREATE TABLE unreferenced_events (
    arrival_id      bigint PRIMARY KEY,
    agent_id        bigint NOT NULL,
    phone           text COLLATE "C" NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    attempt_number  integer,
    is_final        boolean NOT NULL,
    started_at      timestamptz,
    called_at       timestamptz,
    until           timestamptz,
    scanned_at      timestamptz NOT NULL,
    parameters      jsonb
);
COMMENT ON TABLE unreferenced_events IS
    'The evidence on events that no reference names, wherever they are placed at present. find_places() decides by it; one row for each such event with an agent and a phone.';
COMMENT ON COLUMN unreferenced_events.phone IS 'The phone that was called, in E.164.';
COMMENT ON COLUMN unreferenced_events.is_final IS
    'It proves that no further attempt follows: see ends_recipient().';
COMMENT ON COLUMN unreferenced_events.called_at IS 'started_at, else ended_at, else the time of the event; null where it has none.';
COMMENT ON COLUMN unreferenced_events.until IS 'The latest of started_at, ended_at and the time of the event: the call may have lasted until then.';
COMMENT ON COLUMN unreferenced_events.scanned_at IS 'called_at, else the time of arrival: the order in which placement jobs scan the events of an agent.';
COMMENT ON COLUMN unreferenced_events.parameters IS 'The call parameters; null where there are none.';
CREATE INDEX unreferenced_events_phone ON unreferenced_events (agent_id, phone, called_at);
CREATE INDEX unreferenced_events_scanned ON unreferenced_events (agent_id, scanned_at, arrival_id);

CREATE TABLE placement_jobs (
    job_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_key  bigint      NOT NULL,
    agent_id   bigint      NOT NULL,
    since      timestamptz NOT NULL,
    scanned_at timestamptz NOT NULL,
    arrival_id bigint      NOT NULL DEFAULT 0
);
COMMENT ON TABLE placement_jobs IS
    'Changes of batches, of their windows or references, that change where events belong: the unreferenced events of the agent from since on are placed again, in steps. Rows are only added, so nobody waits to add one.';
COMMENT ON COLUMN placement_jobs.scanned_at IS 'With arrival_id: the last event that was placed again.';
CREATE INDEX placement_jobs_batch_key ON placement_jobs (batch_key);

CREATE TABLE reference_batches (
    batch_key bigint PRIMARY KEY
);
COMMENT ON TABLE reference_batches IS
    'Batches that bear references: a webhook named one of their recipients by reference. Apart from batches, so that no webhook waits for one who has locked that row.';
INSERT INTO reference_batches
SELECT b.batch_key FROM batches AS b
WHERE b.ref_token IS NOT NULL AND EXISTS (
    SELECT FROM facts AS f WHERE f.batch_key = b.batch_key AND f.method = 'reference' AND f.source = 'webhook');

CREATE TABLE reference_contradictions (
    arrival_id   bigint PRIMARY KEY,
    agent_id     bigint  NOT NULL,
    phone        text COLLATE "C" NOT NULL,
    batch_key    bigint  NOT NULL,
    recipient_no integer NOT NULL,
    event_id     text COLLATE "C" NOT NULL,
    received_at  timestamptz NOT NULL
);
COMMENT ON TABLE reference_contradictions IS
    'Events whose reference names a recipient with another phone than the one that was called. They count where the reference says.';
COMMENT ON COLUMN reference_contradictions.phone IS 'The phone that was called.';
CREATE INDEX reference_contradictions_phone ON reference_contradictions (phone, agent_id);
CREATE INDEX reference_contradictions_received_at ON reference_contradictions (received_at);
CREATE INDEX reference_contradictions_batch ON reference_contradictions (batch_key, recipient_no);

ALTER TABLE batch_activity ADD COLUMN last_call_at timestamptz;
COMMENT ON COLUMN batch_activity.last_call_at IS 'When the latest of its calls began, by the provider''s clock.';

ALTER TABLE unattributed
    ADD COLUMN source           text,
    ADD COLUMN conversation_id  text COLLATE "C",
    ADD COLUMN attempt_number   integer,
    ADD COLUMN max_attempts     integer,
    ADD COLUMN status           text COLLATE "C",
    ADD COLUMN is_final         boolean,
    ADD COLUMN next_retry_at    timestamptz,
    ADD COLUMN occurred_at      timestamptz,
    ADD COLUMN started_at       timestamptz,
    ADD COLUMN ended_at         timestamptz,
    ADD COLUMN duration_seconds integer,
    ADD COLUMN failure_reason   text,
    ADD COLUMN results          jsonb;
COMMENT ON COLUMN unattributed.source IS
    'With the columns after it: what the event says, as in facts. Null: from before this was kept, so it is only in the body.';

-- migrate:down
ALTER TABLE unattributed
    DROP COLUMN source, DROP COLUMN conversation_id, DROP COLUMN attempt_number, DROP COLUMN max_attempts,
    DROP COLUMN status, DROP COLUMN is_final, DROP COLUMN next_retry_at, DROP COLUMN occurred_at, DROP COLUMN started_at,
    DROP COLUMN ended_at, DROP COLUMN duration_seconds, DROP COLUMN failure_reason, DROP COLUMN results;
ALTER TABLE batch_activity DROP COLUMN last_call_at;
DROP TRIGGER IF EXISTS batches_place_again ON batches;
DROP TABLE reference_contradictions, reference_batches, placement_jobs, unreferenced_events;
