-- The feed's readers, and entries that have to be told again.

-- migrate:up
CREATE TABLE feed_consumers (
    name            text COLLATE "C" PRIMARY KEY,
    position        bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    acknowledged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT feed_consumers_name CHECK (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    CONSTRAINT feed_consumers_position CHECK (position >= 0)
);
COMMENT ON TABLE feed_consumers IS 'Named readers of the feed, and how far each says that it is.';
COMMENT ON COLUMN feed_consumers.position IS 'It has dealt with every entry up to this one.';

CREATE TABLE feed_moves (
    batch_key      bigint  PRIMARY KEY,
    until_position bigint  NOT NULL,
    cursor         integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE feed_moves IS
    'Batches whose id became known after some of their outcomes were in the feed: these get a new position, step by step, so that a reader is told the id.';
COMMENT ON COLUMN feed_moves.until_position IS 'Entries up to this one may have been read without the id.';
COMMENT ON COLUMN feed_moves.cursor IS 'How far it has come: after this recipient.';

-- migrate:down
DROP TABLE feed_moves, feed_consumers;
