-- After a failed comparison a changed batch waits a while before it is tried again: otherwise a batch that the provider
-- does not know, or all of them during an outage, would be asked for without a pause.

-- compatible-from: 0021
-- migrate:up
ALTER TABLE batch_schedules ADD COLUMN retry_at timestamptz;
COMMENT ON COLUMN batch_schedules.retry_at IS
    'From when on a change makes the batch due again, if the last comparison failed; null after one that succeeded.';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN retry_at;
