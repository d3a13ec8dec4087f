-- People who must not be called, and the rows of prepared uploads that are left out because of them.

-- compatible-from: 0021
-- migrate:up
CREATE SEQUENCE suppression_numbers;

CREATE TABLE suppressions (
    phone_hash     bytea PRIMARY KEY,
    suppression_no bigint      NOT NULL DEFAULT nextval('suppression_numbers'),
    reason         text        NOT NULL,
    source         text        NOT NULL,
    agent_id       bigint,
    called_at      timestamptz,
    since          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text        NOT NULL,
    lifted_at      timestamptz
);
COMMENT ON TABLE suppressions IS
    'People who must not be called, as keyed hashes of their phones (see erasure_key). suppress_people() is the only writer of new ones.';
COMMENT ON COLUMN suppressions.suppression_no IS
    'Given under suppressions_lock, so the numbers commit in their order; a new one when a person is suppressed again.';
COMMENT ON COLUMN suppressions.source IS 'Who says so, in a word: outcome for a rule of an agent.';
COMMENT ON COLUMN suppressions.called_at IS 'When the call was whose result matched the rule of agent_id; null for other sources.';
COMMENT ON COLUMN suppressions.lifted_at IS
    'When the person was removed from the list. The row stays, so that earlier calls do not suppress them again.';
CREATE UNIQUE INDEX suppressions_listed ON suppressions (suppression_no) WHERE lifted_at IS NULL;

CREATE TABLE suppressed_recipients (
    batch_key    bigint  NOT NULL,
    recipient_no integer NOT NULL,
    PRIMARY KEY (batch_key, recipient_no)
);
COMMENT ON TABLE suppressed_recipients IS
    'Recipients of stored uploads whose people were suppressed before they were sent. While a batch has any, begin_sending() does not let it be sent; they are withdrawn, and their rows leave the file.';

CREATE TABLE suppressions_lock ();
COMMENT ON TABLE suppressions_lock IS
    'Always empty. Locked while people are suppressed and while the sending of an upload begins, so that one of the two sees the other.';

COMMENT ON COLUMN recipients.withdrawn_at IS
    'When the recipient stopped counting: a registered CSV does not hold it, or it was left out of the file before that was sent.';
COMMENT ON COLUMN batches.withdrawn_count IS 'How many of its recipients are withdrawn; they count for nothing.';

-- migrate:down
DROP TABLE suppressions_lock, suppressed_recipients, suppressions;
DROP SEQUENCE suppression_numbers;
