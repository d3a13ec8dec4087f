-- The request that a line of the audit log was written for.

-- migrate:up
ALTER TABLE audit_log ADD COLUMN request_id text;
COMMENT ON COLUMN audit_log.request_id IS
    'As in the answer''s X-Request-Id and the service''s log; null for what no request asked for, and for lines from before it was kept.';
ALTER TABLE erasures ADD COLUMN request_id text;
COMMENT ON COLUMN erasures.request_id IS 'Of the request that asked for it; whichever replica finishes it tells the audit log.';

-- migrate:down
ALTER TABLE erasures DROP COLUMN request_id;
ALTER TABLE audit_log DROP COLUMN request_id;
