-- Rows that an upload left out because another row has their person, beside those with errors.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE rejected_rows ADD COLUMN is_repeat boolean NOT NULL DEFAULT false;

-- migrate:down
ALTER TABLE rejected_rows DROP COLUMN is_repeat;
