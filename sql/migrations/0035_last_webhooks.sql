-- When the last webhook of a batch came, apart from healed calls: only webhooks prove that the provider reaches the service.

-- compatible-from: 0021
-- migrate:up
ALTER TABLE batch_activity ADD COLUMN last_webhook_at timestamptz;
COMMENT ON COLUMN batch_activity.last_webhook_at IS
    'When the last webhook for the batch was received; null if none has been since this was recorded.';

-- migrate:down
ALTER TABLE batch_activity DROP COLUMN last_webhook_at;
