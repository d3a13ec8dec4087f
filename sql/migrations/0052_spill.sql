-- What waits in the spill stream, and which replicas may have put events there: see find_spilled().

-- compatible-from: 0032
-- migrate:up
CREATE TABLE spill_states (
    stream         text COLLATE "C" PRIMARY KEY,
    waiting_events bigint      NOT NULL,
    oldest_at      timestamptz,
    checked_at     timestamptz NOT NULL,
    is_accepted    boolean     NOT NULL
);
CREATE UNIQUE INDEX spill_states_accepted ON spill_states (is_accepted) WHERE is_accepted;
COMMENT ON TABLE spill_states IS 'What waited in the spill stream when it was last looked at. A stream that was created again has another row.';
COMMENT ON COLUMN spill_states.is_accepted IS 'Whether this is the stream that events are put into, as far as is known: the first one, until outcomes spill lost accepts another.';
COMMENT ON COLUMN spill_states.oldest_at IS 'When the oldest of these events was put there.';

CREATE TABLE spill_replicas (
    replica     text COLLATE "C" PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    spilled_at  timestamptz
);
COMMENT ON TABLE spill_replicas IS 'Replicas that may put events into the spill stream: each renews its row, and lets it run out before it does so unannounced.';
COMMENT ON COLUMN spill_replicas.spilled_at IS 'Until when it may have put events there; infinity: it may now.';

-- migrate:down
DROP TABLE spill_replicas, spill_states;
