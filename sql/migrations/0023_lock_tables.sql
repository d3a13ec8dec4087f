-- What has to happen one at a time is serialised by locks of these tables, which only roles with rights to them can take.
-- Anyone who can connect could hold an advisory lock, as a BI role, and so stop all webhooks.

-- Versions before hold advisory locks. What they do through functions holds the new locks once those are applied:
-- finish_lock_change() waits for what began before. Their queries hold advisory locks until they end, beside this version:
-- - columns of an agent: two versions that are the same fail by the primary key, and the upload is repeated;
-- - keys: two created at the same instant could exceed the limit of live keys by one;
-- - migrations: an older version has none to apply where it has run;
-- - `outcomes rebuild`: do not run it in two versions at once, or run it again.

-- compatible-from: 0016
-- migrate:up
CREATE TABLE ingest_lock ();
COMMENT ON TABLE ingest_lock IS 'Always empty. lock_ingest() locks it: anything that changes facts or what follows from them.';
CREATE TABLE body_partitions_lock ();
COMMENT ON TABLE body_partitions_lock IS 'Always empty. Locked while partitions of event_bodies are made or dropped.';
CREATE TABLE uploads_lock ();
COMMENT ON TABLE uploads_lock IS 'Always empty. Locked while begin_upload() decides whether an upload repeats another.';
CREATE TABLE rebuild_lock ();
COMMENT ON TABLE rebuild_lock IS 'Always empty. Locked for as long as `outcomes rebuild` runs.';
CREATE TABLE feed_consumers_lock ();
COMMENT ON TABLE feed_consumers_lock IS 'Always empty. Locked while acknowledge_feed() records a position.';
CREATE TABLE api_keys_lock ();
COMMENT ON TABLE api_keys_lock IS 'Always empty. Locked while a key is created.';
CREATE TABLE agent_columns_locks (
    agent_id bigint PRIMARY KEY
);
COMMENT ON TABLE agent_columns_locks IS
    'One row for each agent, locked while a file of the agent is stored: its columns are compared and changed one at a time.';

-- migrate:down
DROP TABLE agent_columns_locks, api_keys_lock, feed_consumers_lock, rebuild_lock, uploads_lock, body_partitions_lock, ingest_lock;
