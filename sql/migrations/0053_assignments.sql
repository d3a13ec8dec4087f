-- Events that a person assigned: find_places() puts each where its person did.

-- compatible-from: 0032
-- migrate:up
CREATE TABLE assignments (
    arrival_id   bigint      PRIMARY KEY,
    batch_key    bigint      NOT NULL REFERENCES batches,
    recipient_no integer     NOT NULL,
    assigned_at  timestamptz NOT NULL,
    actor        text        NOT NULL
);

ALTER TABLE facts DROP CONSTRAINT facts_method;
ALTER TABLE facts ADD CONSTRAINT facts_method
    CHECK (method IN ('reference', 'recipient', 'window', 'manual')) NOT VALID;

-- migrate:down
DROP TABLE assignments;
UPDATE facts SET method = 'recipient' WHERE method = 'manual';
ALTER TABLE facts DROP CONSTRAINT facts_method;
ALTER TABLE facts ADD CONSTRAINT facts_method CHECK (method IN ('reference', 'recipient', 'window')) NOT VALID;
