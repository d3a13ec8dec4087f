-- The end of a complete batch is kept with its verdict: calls that leave or come later move it at the next comparison only.

-- compatible-from: 0021
-- migrate:up
ALTER TABLE batch_schedules ADD COLUMN ends_at timestamptz;
COMMENT ON COLUMN batch_schedules.ends_at IS
    'When the last call began that was known when the batch was last found complete; null while it is not complete.';
UPDATE batch_schedules AS s SET ends_at = a.last_call_at
FROM batch_activity AS a
WHERE a.batch_key = s.batch_key AND s.verdict = 'complete';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN ends_at;
