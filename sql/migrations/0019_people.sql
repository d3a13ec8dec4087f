-- Erasures that look for a person in every body, in any spelling; and the repair of phones that older versions stored as
-- they were written.

-- compatible-from: 0016
-- migrate:up
ALTER TABLE erasures
    ADD COLUMN bodies_read bigint NOT NULL DEFAULT 0,
    ADD COLUMN searched_at timestamptz;
COMMENT ON COLUMN erasures.bodies_read IS 'How many bodies, of whomever, were looked at for the person.';
COMMENT ON COLUMN erasures.searched_at IS
    'When all bodies that were there had been looked at. Until then step late first looks at them, from cursor on.';

CREATE TABLE erased_calling_codes (
    calling_code text PRIMARY KEY
);
COMMENT ON TABLE erased_calling_codes IS
    'The country codes of people who were erased: by them a national number in a body is held against the tombstones.';

CREATE TABLE phone_repairs (
    name         text PRIMARY KEY,
    step         text        NOT NULL,
    batch_key    bigint      NOT NULL DEFAULT 0,
    cursor       bigint      NOT NULL DEFAULT 0,
    repaired     bigint      NOT NULL DEFAULT 0,
    passes       integer     NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT phone_repairs_step CHECK (step IN ('recipients', 'unattributed', 'done'))
);
COMMENT ON TABLE phone_repairs IS 'How far the repair of what older versions stored has come; any replica takes the next step.';
COMMENT ON COLUMN phone_repairs.batch_key IS 'Where the step goes on: from this batch on,';
COMMENT ON COLUMN phone_repairs.cursor IS 'and there after this recipient; or after this arrival.';
COMMENT ON COLUMN phone_repairs.passes IS
    'How often it went through everything: twice, a day apart, since a version before may have run beside the first.';
INSERT INTO phone_repairs (name, step)
SELECT 'phones', 'recipients' WHERE EXISTS (SELECT FROM recipients) OR EXISTS (SELECT FROM unattributed);

-- migrate:down
DROP TABLE phone_repairs, erased_calling_codes;
ALTER TABLE erasures DROP COLUMN bodies_read, DROP COLUMN searched_at;
