-- Calls healed from their entry in the provider's list, whose details (results, failure reason) are still to be fetched.

-- compatible-from: 0021
-- migrate:up
CREATE TABLE outstanding_details (
    arrival_id      bigint PRIMARY KEY,
    batch_key       bigint,
    conversation_id text COLLATE "C" NOT NULL,
    started_at      timestamptz,
    is_completed    boolean     NOT NULL,
    reads           smallint    NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE outstanding_details IS
    'Healed calls of which only the entry in the provider''s list is known: their details are to be fetched. note_details() adds a row with the fact; it goes when the details or a webhook with results are there.';
COMMENT ON COLUMN outstanding_details.arrival_id IS 'The fact from the list.';
COMMENT ON COLUMN outstanding_details.batch_key IS 'Where the call counts; null while it counts nowhere, and then its details are not fetched.';
COMMENT ON COLUMN outstanding_details.is_completed IS 'Completed calls have results, so their details come first.';
COMMENT ON COLUMN outstanding_details.reads IS 'How often the details were read: those of a completed call without results are read once more.';
COMMENT ON COLUMN outstanding_details.due_at IS 'Not to be read before this time.';
CREATE INDEX outstanding_details_batch ON outstanding_details (batch_key, is_completed DESC, arrival_id);
CREATE INDEX outstanding_details_conversation ON outstanding_details (conversation_id);

ALTER TABLE batch_schedules ADD COLUMN details_expected_at timestamptz;
COMMENT ON COLUMN batch_schedules.details_expected_at IS
    'When the details of its calls that are outstanding are expected to be there, by the pace of the calls to the provider.';

ALTER TABLE reconciliations
    ADD COLUMN details_outstanding integer,
    ADD COLUMN details_expected_at timestamptz;
COMMENT ON COLUMN reconciliations.details_outstanding IS
    'Healed calls whose results and failure reasons were still to be fetched at the last of these comparisons; null if that was before this was stored.';
COMMENT ON COLUMN reconciliations.details_expected_at IS 'When they were expected to be there; null if none were outstanding.';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN details_expected_at;
ALTER TABLE reconciliations DROP COLUMN details_outstanding, DROP COLUMN details_expected_at;
DROP TABLE outstanding_details;
