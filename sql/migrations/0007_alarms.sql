-- What alarms need to look at: rejections, which touch no other table, and indexes that keep each question small.

-- migrate:up
CREATE TABLE rejected_signatures (
    minute     timestamptz NOT NULL,
    target     text COLLATE "C" NOT NULL,
    rejections bigint      NOT NULL,
    PRIMARY KEY (minute, target)
);
COMMENT ON TABLE rejected_signatures IS
    'Webhooks that were refused for their signature, by the minute in which a replica told of them. A flood makes one row a minute.';
ALTER TABLE provider_budgets ADD COLUMN failing_since timestamptz;
COMMENT ON COLUMN provider_budgets.failing_since IS 'The first of the present failures in a row.';
CREATE INDEX batch_schedules_drifted ON batch_schedules (verdict_since) WHERE verdict = 'drifted';
CREATE INDEX reconciliations_healed ON reconciliations (compared_at) WHERE healed > 0;

-- migrate:down
ALTER TABLE provider_budgets DROP COLUMN failing_since;
DROP INDEX reconciliations_healed, batch_schedules_drifted;
DROP TABLE rejected_signatures;
