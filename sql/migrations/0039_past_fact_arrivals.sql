-- Withdrawn facts by arrival: an erasure looks through them for the numbers that calls were made from.

-- compatible-from: 0032
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS past_facts_arrival_id ON past_facts (arrival_id);

-- migrate:down
DROP INDEX past_facts_arrival_id;
