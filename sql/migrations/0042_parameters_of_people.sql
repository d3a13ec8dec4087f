-- People by a parameter of theirs, such as the customer's own id: hashes of name and value together. Entries that
-- wait are few, so that no step that writes them in waits long, and no search reads many.

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS recipients_parameters ON recipients
    USING gin (parameters jsonb_path_ops) WITH (gin_pending_list_limit = 256);

-- migrate:down
DROP INDEX recipients_parameters;
