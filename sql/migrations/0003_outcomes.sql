-- Facts about attempts, and what is derived from them: outcomes, counters, feed positions.
-- Everything here is written by ingest() alone, under its lock.

-- migrate:up
CREATE TABLE facts (
    batch_key        bigint   NOT NULL,
    recipient_no     integer  NOT NULL,
    arrival_id       bigint   NOT NULL,
    conversation_id  text COLLATE "C" NOT NULL,
    attempt_number   integer,
    max_attempts     integer,
    status           text COLLATE "C" NOT NULL,
    is_final         boolean  NOT NULL,
    next_retry_at    timestamptz,
    occurred_at      timestamptz,
    started_at       timestamptz,
    ended_at         timestamptz,
    duration_seconds integer,
    failure_reason   text,
    results          jsonb    NOT NULL,
    event_id         text COLLATE "C" NOT NULL,
    source           text COLLATE "C" NOT NULL,
    method           text COLLATE "C" NOT NULL,
    recorded_at      timestamptz NOT NULL,
    PRIMARY KEY (batch_key, recipient_no, arrival_id),
    CONSTRAINT facts_source CHECK (source IN ('webhook', 'healed')),
    CONSTRAINT facts_method CHECK (method IN ('reference', 'recipient', 'window'))
);
COMMENT ON TABLE facts IS
    'What one event says about one attempt. Insert-only: attempts and outcomes are functions of the set of facts, so the order of arrival cannot matter.';
COMMENT ON COLUMN facts.attempt_number IS 'The provider''s number of the attempt; null where it gave none.';
COMMENT ON COLUMN facts.is_final IS 'No further attempt follows, as far as this event knows.';
COMMENT ON COLUMN facts.occurred_at IS 'When the provider created the event: its own word.';
COMMENT ON COLUMN facts.source IS 'How it is known: webhook, or healed from a conversation.';
COMMENT ON COLUMN facts.method IS 'How the recipient was found.';
CREATE INDEX facts_arrival_id ON facts (arrival_id);

CREATE TABLE unattributed (
    arrival_id  bigint PRIMARY KEY,
    event_id    text COLLATE "C" NOT NULL,
    agent_id    bigint,
    phone       text COLLATE "C",
    reason      text        NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT unattributed_reason CHECK (reason IN ('no_batch', 'ambiguous'))
);
COMMENT ON TABLE unattributed IS 'Events that fit no recipient, or several: kept until something decides. Delivering one again tries it again.';
CREATE INDEX unattributed_agent_phone ON unattributed (agent_id, phone);

CREATE SEQUENCE feed_positions;

CREATE TABLE outcomes (
    batch_key    bigint  NOT NULL,
    recipient_no integer NOT NULL,
    state        text COLLATE "C" NOT NULL,
    attempts     integer NOT NULL,
    arrival_id   bigint  NOT NULL,
    position     bigint  NOT NULL,
    version      integer NOT NULL,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (batch_key, recipient_no)
);
COMMENT ON TABLE outcomes IS 'A recipient''s present state, from its first attempt on; narrow, since it is what changes.';
COMMENT ON COLUMN outcomes.arrival_id IS 'The fact that decided it.';
COMMENT ON COLUMN outcomes.position IS 'Its place in the feed: taken under the ingest lock, so positions commit in order.';
COMMENT ON COLUMN outcomes.version IS 'How often the outcome has changed, from 1.';
CREATE UNIQUE INDEX outcomes_position ON outcomes (position);

CREATE TYPE visible_outcome AS (
    state text, status text, attempts integer, duration_seconds integer, results jsonb, failure_reason text,
    next_retry_at timestamptz, called_at timestamptz, conversation_id text, source text
);
COMMENT ON TYPE visible_outcome IS 'What readers see of an outcome: only when this differs has it changed.';

-- Counters: kept by deltas (old outcome out, new outcome in), so that reading a batch costs the same at any size.
CREATE TABLE outcome_counts (
    batch_key    bigint  NOT NULL,
    state        text COLLATE "C" NOT NULL,
    attempts     integer NOT NULL,
    source       text COLLATE "C" NOT NULL,
    recipients   bigint  NOT NULL,
    talked       bigint  NOT NULL,
    talk_seconds bigint  NOT NULL,
    PRIMARY KEY (batch_key, state, attempts, source)
) WITH (fillfactor = 50);
COMMENT ON TABLE outcome_counts IS 'Recipients by state, number of attempts and source of the deciding fact.';
COMMENT ON COLUMN outcome_counts.talked IS 'Those whose latest attempt has a duration.';
COMMENT ON COLUMN outcome_counts.talk_seconds IS 'The sum of those durations.';

CREATE TABLE result_counts (
    batch_key  bigint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    value      text COLLATE "C" NOT NULL,
    recipients bigint NOT NULL,
    magnitude  smallint NOT NULL GENERATED ALWAYS AS
        (length(ltrim(recipients::bit(64)::text, '0'))) STORED,
    PRIMARY KEY (batch_key, name, value)
) WITH (fillfactor = 50);
COMMENT ON TABLE result_counts IS 'Recipients by each key and value of the latest attempt''s results, every value exactly.';
COMMENT ON COLUMN result_counts.magnitude IS
    'How many binary digits the count has. Indexed in its place, since it seldom changes: most updates then touch no index.';
CREATE INDEX result_counts_top ON result_counts (batch_key, name, magnitude DESC, value);

CREATE TABLE result_totals (
    batch_key  bigint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    recipients bigint NOT NULL,
    PRIMARY KEY (batch_key, name)
) WITH (fillfactor = 50);
COMMENT ON TABLE result_totals IS 'Recipients whose latest attempt has a result of this name, whatever its value.';

CREATE TABLE attempt_counts (
    batch_key bigint NOT NULL,
    slot      timestamptz NOT NULL,
    status    text COLLATE "C" NOT NULL,
    attempts  bigint NOT NULL,
    PRIMARY KEY (batch_key, slot, status)
) WITH (fillfactor = 50);
COMMENT ON TABLE attempt_counts IS 'Attempts by the quarter of an hour in which they began and by status: fine enough for every time zone.';
COMMENT ON COLUMN attempt_counts.slot IS '-infinity where the provider gave no time at all.';

CREATE TABLE batch_activity (
    batch_key     bigint PRIMARY KEY,
    last_event_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE batch_activity IS 'When the last event of a batch was received.';

-- migrate:down
DROP TABLE batch_activity, attempt_counts, result_totals, result_counts, outcome_counts, outcomes, unattributed, facts;
DROP TYPE visible_outcome;
DROP SEQUENCE feed_positions;
