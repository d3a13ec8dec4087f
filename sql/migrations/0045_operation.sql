-- What people who run the service look at and change: paused consumers, webhooks by answer, and what retention deleted last.

-- compatible-from: 0038
-- migrate:up
ALTER TABLE feed_consumers ADD COLUMN paused_at timestamptz;
COMMENT ON COLUMN feed_consumers.paused_at IS 'Since when reading by its name is refused; null: it is not paused.';

CREATE TABLE webhook_answers (
    minute   timestamptz NOT NULL,
    target   text COLLATE "C" NOT NULL,
    answer   text COLLATE "C" NOT NULL,
    requests bigint      NOT NULL,
    PRIMARY KEY (minute, target, answer)
);
COMMENT ON TABLE webhook_answers IS 'Webhook requests of all replicas, by the minute in which a replica reported them, by target and answer.';

CREATE TABLE retention_deletions (
    kind       text COLLATE "C" PRIMARY KEY,
    deleted_at timestamptz NOT NULL,
    deleted    bigint      NOT NULL
);
COMMENT ON TABLE retention_deletions IS 'The last pass of retention that deleted anything, for each kind of data.';
COMMENT ON COLUMN retention_deletions.deleted IS 'Rows; of bodies, steps.';

-- migrate:down
DROP TABLE retention_deletions, webhook_answers;
ALTER TABLE feed_consumers DROP COLUMN paused_at;
