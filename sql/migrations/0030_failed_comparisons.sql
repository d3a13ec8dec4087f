-- A comparison that failed waits before it is tried again, also when the batch has changed meanwhile: otherwise a batch that
-- the provider does not know is asked for without a pause, as long as its last change has not been compared.

-- compatible-from: 0021
-- migrate:up
ALTER TABLE batch_schedules ADD COLUMN retry_at timestamptz;
COMMENT ON COLUMN batch_schedules.retry_at IS
    'When the last comparison may be tried again, if it failed; null after one that succeeded.';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN retry_at;
