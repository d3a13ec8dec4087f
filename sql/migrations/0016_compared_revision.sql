-- Which state of a batch its last comparison had seen. Times cannot tell that: an event that was kept for long (in
-- quarantine, unattributed) counts later than it came, and clocks are set back.

-- compatible-from: 0013
-- migrate:up
ALTER TABLE batch_schedules ADD COLUMN compared_revision bigint;
COMMENT ON COLUMN batch_schedules.compared_revision IS
    'The batch''s revision when it was last compared; null where that was before this was kept.';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN compared_revision;
