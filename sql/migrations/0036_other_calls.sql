-- Calls that are in no batch: single and inbound calls, as the rules of the targets file know them.

-- compatible-from: 0021
-- migrate:up
CREATE TABLE other_events (
    arrival_id       bigint PRIMARY KEY,
    event_id         text COLLATE "C" NOT NULL,
    kind             text COLLATE "C" NOT NULL,
    is_ruled         boolean     NOT NULL,
    is_counted       boolean     NOT NULL DEFAULT false,
    agent_id         bigint,
    phone            text COLLATE "C",
    conversation_id  text COLLATE "C" NOT NULL,
    attempt_number   integer,
    status           text COLLATE "C" NOT NULL,
    source           text COLLATE "C" NOT NULL,
    called_at        timestamptz NOT NULL,
    occurred_at      timestamptz,
    started_at       timestamptz,
    ended_at         timestamptz,
    duration_seconds integer,
    failure_reason   text,
    results          jsonb       NOT NULL,
    parameters       jsonb,
    received_at      timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL,
    erased_at        timestamptz,
    CONSTRAINT other_events_kind CHECK (kind IN ('single', 'inbound'))
);
COMMENT ON TABLE other_events IS
    'Events of calls that are in no batch. move_other_calls() is the only writer of new ones.';
COMMENT ON COLUMN other_events.is_ruled IS
    'A rule decided its kind. False: it reports the same call as an event for which one did.';
COMMENT ON COLUMN other_events.is_counted IS 'It represents its call, which may have several events: see count_other_calls().';
COMMENT ON COLUMN other_events.phone IS 'The person''s phone, in E.164: of an inbound call the caller''s. Null once erased.';
COMMENT ON COLUMN other_events.called_at IS 'started_at, else ended_at, else the time of the event, else of its arrival.';
COMMENT ON COLUMN other_events.erased_at IS 'When its person was erased; the call still counts.';
COMMENT ON COLUMN other_events.parameters IS 'The call parameters; null where there are none.';
CREATE INDEX other_events_conversation ON other_events (conversation_id);
CREATE INDEX other_events_phone ON other_events (phone) WHERE phone IS NOT NULL;
CREATE INDEX other_events_received ON other_events (received_at) WHERE phone IS NOT NULL;
CREATE INDEX other_events_kind_called ON other_events (kind, called_at, arrival_id) WHERE is_counted;
CREATE INDEX other_events_agent_called ON other_events (agent_id, kind, called_at, arrival_id) WHERE is_counted;

CREATE TABLE other_call_counts (
    agent_id bigint NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    day      date   NOT NULL,
    status   text COLLATE "C" NOT NULL,
    calls    bigint NOT NULL,
    PRIMARY KEY (agent_id, kind, day, status)
) WITH (fillfactor = 50);
COMMENT ON TABLE other_call_counts IS
    'Calls outside batches by agent (0: unknown), kind, day in UTC on which they began, and status. Kept by a trigger on other_events.';

CREATE TABLE rule_sweeps (
    digest     bytea       PRIMARY KEY,
    cursor     bigint      NOT NULL,
    moved      bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz
);
COMMENT ON TABLE rule_sweeps IS
    'How far each set of rules for calls outside batches has been applied to the events that came before it, by the rules'' digest.';
COMMENT ON COLUMN rule_sweeps.cursor IS 'The last arrival that was looked at.';

-- migrate:down
DROP TABLE rule_sweeps, other_call_counts, other_events;
DROP FUNCTION IF EXISTS note_other_event();
