-- What a reader of the feed keeps with its place: the CRM sync job its mapping's digest, so that a changed mapping is noticed.

-- compatible-from: 0013
-- migrate:up
ALTER TABLE feed_consumers ADD COLUMN tag text COLLATE "C";
COMMENT ON COLUMN feed_consumers.tag IS 'Opaque text that the reader keeps with its position; null until it sends one.';

-- migrate:down
ALTER TABLE feed_consumers DROP COLUMN tag;
