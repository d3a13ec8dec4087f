-- name: read_feed(after, limit, bytes)
-- Entries of the feed after a position, in their order.
SELECT * FROM read_feed_page(:after, :limit, :bytes);

-- name: get_last_position()$
-- The position of the last entry that can be read; 0 while there is none.
SELECT coalesce(max(position), 0) FROM outcomes;

-- name: get_last_taken_position()$
-- The last position ever taken, committed or not: no reader can be further.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM feed_positions;

-- name: find_lost_end(position)$
-- For a position of a lost history, where the feed ended when that history was lost; null for any other position.
SELECT previous_end FROM feed_timelines
WHERE first_position > :position AND previous_end < :position
ORDER BY first_position LIMIT 1;

-- name: note_server()$
-- Opens a timeline of the feed if these data have moved to another server; returns why.
SELECT note_server();

-- name: open_feed_timeline(reason, is_cut_off)^
-- Lets the feed continue beyond all positions that any history of these data can have taken.
SELECT * FROM open_feed_timeline(:reason, :is_cut_off);

-- name: move_feed_entries(rows)$
-- Takes the next step of publishing a batch id that became known late; returns false when there is none.
SELECT move_feed_entries(NULL, :rows);

-- name: get_feed_consumer(name, counted)^
-- One consumer, and its lag.
SELECT l.*, c.tag, c.paused_at FROM list_feed_consumers(:name, :counted) AS l JOIN feed_consumers AS c USING (name);

-- name: list_feed_consumers(counted)
-- All consumers by name, and the lag of each.
SELECT l.*, c.tag, c.paused_at FROM list_feed_consumers(NULL, :counted) AS l JOIN feed_consumers AS c USING (name) ORDER BY name;

-- name: get_consumer_position(name)^
-- The position that a consumer has acknowledged, whether it must be reset first, and since when it is paused; nothing for
-- an unknown consumer.
SELECT position, is_cut_off, paused_at FROM feed_consumers WHERE name = :name;

-- name: acknowledge_feed(name, position, is_reset, limit, tag)^
-- Records the position of a consumer, and its tag unless that is null; or says why not.
SELECT * FROM acknowledge_feed(:name, :position, :is_reset, :limit, :tag);

-- name: reset_consumer(name, position, limit, tag, actor, key_id, request_id)^
-- Like acknowledge_feed, but the position may move back. Records it in the audit log.
WITH answer AS MATERIALIZED (
    SELECT * FROM acknowledge_feed(:name, :position, true, :limit, :tag)
), line AS (
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    SELECT :actor, :key_id, :request_id, 'consumer_reset', 'consumer ' || :name, 'reset',
           jsonb_build_object('position', :position::bigint, 'before', at)
    FROM answer
    WHERE refusal IS NULL
)
SELECT * FROM answer;

-- name: pause_consumer(name)$
-- Pauses a consumer, unless it is paused already; returns null for an unknown one.
UPDATE feed_consumers SET paused_at = coalesce(paused_at, clock_timestamp()) WHERE name = :name RETURNING name;

-- name: resume_consumer(name)$
-- Ends a consumer's pause; returns null for an unknown one.
UPDATE feed_consumers SET paused_at = NULL WHERE name = :name RETURNING name;

-- name: count_feed(after, counted)^
-- The entries after a position, counted up to :counted; more are the distance between the positions.
SELECT * FROM count_feed(:after, :counted);

-- name: delete_feed_consumer(name)$
-- Forgets a consumer; returns null for an unknown one.
DELETE FROM feed_consumers WHERE name = :name RETURNING name;

-- name: list_fields(agent_id, after, limit, batches, names)
-- The call parameters and results that agents really have, by agent; of one agent, or of all if that is null.
SELECT * FROM list_fields(:agent_id, :after, :limit, :batches, :names);
