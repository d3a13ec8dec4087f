-- What readers steer by: talk time by its length, contacts, retries by the minute they are due, a batch's revision, and
-- batches by when they were made. backfill_counters() fills the counters for what is there already.

-- migrate:up
CREATE TABLE talk_time_counts (
    batch_key    bigint  NOT NULL,
    from_seconds integer NOT NULL,
    recipients   bigint  NOT NULL,
    PRIMARY KEY (batch_key, from_seconds)
) WITH (fillfactor = 50);
COMMENT ON TABLE talk_time_counts IS 'Completed recipients by how long their latest attempt talked: a histogram, for percentiles.';
COMMENT ON COLUMN talk_time_counts.from_seconds IS
    'The shortest that is counted here: each second below 64, then 32 steps to each doubling, all from 8192 on together.';

CREATE TABLE contact_counts (
    batch_key  bigint PRIMARY KEY,
    recipients bigint NOT NULL,
    connects   bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE contact_counts IS 'Recipients that were reached in any attempt, and the attempts that reached somebody; a row for each batch with facts.';
COMMENT ON COLUMN contact_counts.connects IS 'Completed attempts.';

CREATE TABLE retry_counts (
    batch_key  bigint      NOT NULL,
    due_at     timestamptz NOT NULL,
    recipients bigint      NOT NULL,
    is_open    boolean     NOT NULL GENERATED ALWAYS AS (recipients > 0) STORED,
    PRIMARY KEY (batch_key, due_at)
) WITH (fillfactor = 50);
COMMENT ON TABLE retry_counts IS 'Recipients that wait for a retry, by the minute in which it is due.';
COMMENT ON COLUMN retry_counts.due_at IS 'infinity where the provider told no time.';
COMMENT ON COLUMN retry_counts.is_open IS 'Indexed in the place of the count, since it seldom changes; past minutes drop out of that index.';
CREATE INDEX retry_counts_open ON retry_counts (batch_key, due_at) WHERE is_open;

ALTER TABLE batch_activity ADD COLUMN revision bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN batch_activity.revision IS
    'Raised, under the ingest lock, by whatever moves a counter of the batch or changes its recipients'' parameters.';

CREATE INDEX batches_made ON batches ((coalesce(created_at, prepared_at))) WHERE batch_id IS NOT NULL;
CREATE INDEX batches_agent_made ON batches (agent_id, (coalesce(created_at, prepared_at))) WHERE batch_id IS NOT NULL;

-- migrate:down
DROP INDEX batches_agent_made, batches_made;
ALTER TABLE batch_activity DROP COLUMN revision;
DROP TABLE retry_counts, contact_counts, talk_time_counts;
