-- What is kept about odd data: how far the repair of stored times and numbers has come, and what is odd in the provider's
-- list of batches.

-- compatible-from: 0013
-- migrate:up
CREATE TABLE repairs (
    name       text COLLATE "C" PRIMARY KEY,
    cursor     bigint      NOT NULL DEFAULT 0,
    corrected  bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE repairs IS 'How far each repair of stored data has come, so that a start or command continues there.';
COMMENT ON COLUMN repairs.cursor IS 'implausible_facts: every fact up to this arrival id has been checked.';

CREATE TABLE provider_lists (
    name        text COLLATE "C" PRIMARY KEY,
    read_at     timestamptz NOT NULL,
    odd_entries integer     NOT NULL,
    odd_since   timestamptz,
    reasons     jsonb       NOT NULL,
    batch_ids   bigint[]    NOT NULL
);
COMMENT ON TABLE provider_lists IS 'What the last reading of a list of the provider found odd in it; one row for each list.';
COMMENT ON COLUMN provider_lists.odd_entries IS 'Entries that were skipped, and one for a list that cannot be read to its end.';
COMMENT ON COLUMN provider_lists.odd_since IS 'Since when every reading has found something odd; null while there is nothing.';
COMMENT ON COLUMN provider_lists.reasons IS 'How many entries for each reason.';
COMMENT ON COLUMN provider_lists.batch_ids IS 'Some of the skipped batches that have an id.';

-- migrate:down
DROP TABLE provider_lists, repairs;
