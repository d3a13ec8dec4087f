-- The timelines of the feed: after a restore or a failover positions go on far beyond any that were ever taken, so that
-- who had read what is gone is told so, however much comes after.

-- compatible-from: 0013
-- migrate:up
CREATE TABLE feed_timelines (
    timeline_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    previous_end      bigint NOT NULL,
    first_position    bigint NOT NULL UNIQUE,
    reason            text COLLATE "C" NOT NULL,
    system_identifier bigint,
    database_oid      bigint,
    wal_timeline      text COLLATE "C",
    opened_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT feed_timelines_order CHECK (previous_end < first_position),
    CONSTRAINT feed_timelines_reason CHECK (reason IN ('begun', 'failover', 'moved', 'restored'))
);
COMMENT ON TABLE feed_timelines IS
    'Where the feed may have lost its end. Positions between previous_end and first_position belong to a history that is gone: who stands there has seen what no longer holds.';
COMMENT ON COLUMN feed_timelines.previous_end IS 'The last position that was there when this one was opened.';
COMMENT ON COLUMN feed_timelines.first_position IS 'Microseconds since 1970 when it was opened, which no feed ever comes up with: it would take a million changes a second.';
COMMENT ON COLUMN feed_timelines.reason IS
    'begun, failover (another server took over, perhaps with all commits), moved (another database: restored, copied or upgraded), restored (somebody said so).';
COMMENT ON COLUMN feed_timelines.wal_timeline IS 'The server''s own timeline, which each promotion and each recovery to a point in time raises.';

ALTER TABLE feed_consumers ADD COLUMN is_cut_off boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN feed_consumers.is_cut_off IS 'It may have read what is gone, and acknowledged that in what is gone too: it has to be reset.';

-- migrate:down
ALTER TABLE feed_consumers DROP COLUMN is_cut_off;
DROP TABLE feed_timelines;
