-- Checks the facts that are stored, without keeping webhooks out.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE facts VALIDATE CONSTRAINT facts_method;

-- migrate:down
SELECT 1;
