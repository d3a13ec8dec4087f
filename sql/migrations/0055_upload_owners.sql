-- Who made an upload: its rows are given back to the same key, and to those who may see people.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE upload_reports ADD COLUMN actor text, ADD COLUMN key_id bigint;

-- migrate:down
ALTER TABLE upload_reports DROP COLUMN actor, DROP COLUMN key_id;
