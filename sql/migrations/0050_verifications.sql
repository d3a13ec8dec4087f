-- What `outcomes verify` has verified: it reads only batches that have changed since, and a full run goes on where it was
-- stopped. Written by that command alone.

-- compatible-from: 0032
-- migrate:up
CREATE TABLE full_verifications (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz
);
COMMENT ON TABLE full_verifications IS 'Runs of outcomes verify --full.';
COMMENT ON COLUMN full_verifications.completed_at IS 'Null while it runs or was stopped: the next one continues it.';

CREATE TABLE verifications (
    batch_key       bigint PRIMARY KEY,
    revision        bigint NOT NULL,
    recipient_count integer NOT NULL,
    full_run_id     bigint,
    verified_at     timestamptz NOT NULL
);
COMMENT ON TABLE verifications IS 'Batches in which outcomes verify found no difference, each as of its last verification.';
COMMENT ON COLUMN verifications.revision IS 'The batch''s revision then; 0 where it had no event.';
COMMENT ON COLUMN verifications.full_run_id IS 'The last full run that includes it.';

-- migrate:down
DROP TABLE verifications, full_verifications;
