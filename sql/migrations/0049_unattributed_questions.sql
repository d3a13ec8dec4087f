-- The unattributed events that are questions to somebody: see is_question().

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS unattributed_questions ON unattributed (arrival_id) WHERE source IS DISTINCT FROM 'healed';

-- migrate:down
DROP INDEX unattributed_questions;
