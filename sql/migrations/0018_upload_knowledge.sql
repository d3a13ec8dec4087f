-- How it is known what became of an upload: a guess must give way to the provider's own answer.

-- compatible-from: 0013
-- migrate:up
ALTER TABLE batches ADD COLUMN known_by text COLLATE "C";
ALTER TABLE batches ADD CONSTRAINT batches_known_by CHECK (known_by IN ('answer', 'person', 'lookup')) NOT VALID;
COMMENT ON COLUMN batches.known_by IS
    'How it is known what became of an upload. answer: the provider''s own answer to it. person: somebody resolved it. lookup: it was found in the provider''s list. null: it is not known, or was settled by a version that did not keep this.';

-- migrate:down
ALTER TABLE batches DROP CONSTRAINT batches_known_by, DROP COLUMN known_by;
