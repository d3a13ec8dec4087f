-- The uploads that a lookup guessed, which every reading of the provider's list may prove wrong: few among all.

-- compatible-from: 0016
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS batches_guessed ON batches (agent_id)
WHERE known_by = 'lookup' AND upload_state = 'uploaded' AND closed_at IS NULL;

-- migrate:down
DROP INDEX batches_guessed;
