-- People by the words of their name: see name_words().

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS recipients_name_words ON recipients
    USING gin (name_words(parameters)) WITH (gin_pending_list_limit = 256);

-- migrate:down
DROP INDEX recipients_name_words;
