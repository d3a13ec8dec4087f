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
SELECT l.*, c.tag FROM list_feed_consumers(:name, :counted) AS l JOIN feed_consumers AS c USING (name);

-- name: list_feed_consumers(counted)
-- All consumers by name, and the lag of each.
SELECT l.*, c.tag FROM list_feed_consumers(NULL, :counted) AS l JOIN feed_consumers AS c USING (name) ORDER BY name;

-- name: get_consumer_position(name)^
-- The position that a consumer has acknowledged, and whether it must be reset first; nothing for an unknown consumer.
SELECT position, is_cut_off FROM feed_consumers WHERE name = :name;

-- name: acknowledge_feed(name, position, is_reset, limit, tag)^
-- Records the position of a consumer, and its tag unless that is null; or says why not.
SELECT * FROM acknowledge_feed(:name, :position, :is_reset, :limit, :tag);

-- name: delete_feed_consumer(name)$
-- Forgets a consumer; returns null for an unknown one.
DELETE FROM feed_consumers WHERE name = :name RETURNING name;

-- name: list_fields(agent_id, after, limit, batches, names)
-- The call parameters and results that agents really have, by agent; of one agent, or of all if that is null.
SELECT * FROM list_fields(:agent_id, :after, :limit, :batches, :names);
