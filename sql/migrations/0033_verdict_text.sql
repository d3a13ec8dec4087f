-- The verdict in words, for readers of the views.

-- compatible-from: 0021
-- migrate:up
ALTER TABLE batch_schedules ADD COLUMN verdict_text text;
COMMENT ON COLUMN batch_schedules.verdict_text IS
    'The verdict and its reasons in a sentence, as service/wording.py wrote it; null when never compared since this was added.';

-- migrate:down
ALTER TABLE batch_schedules DROP COLUMN verdict_text;
