-- name: read_feed(after, limit, bytes)
-- Entries of the feed after a position, in their order.
SELECT * FROM read_feed(:after, :limit, :bytes);

-- name: get_last_position()$
-- The position of the last entry that can be read; 0 while there is none.
SELECT coalesce(max(position), 0) FROM outcomes;

-- name: get_last_taken_position()$
-- The last position that was ever taken, committed or not: nobody can have read further.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM feed_positions;

-- name: find_lost_end(position)$
-- Where the feed ended that was read up to a position of a history that is gone; null for any other position.
SELECT previous_end FROM feed_timelines
WHERE first_position > :position AND previous_end < :position
ORDER BY first_position LIMIT 1;

-- name: note_server()$
-- Opens a timeline of the feed when these data have come to another server, and tells why.
SELECT note_server();

-- name: open_feed_timeline(reason, is_cut_off)^
-- Lets the feed go on beyond all positions that any history of these data can have taken.
SELECT * FROM open_feed_timeline(:reason, :is_cut_off);

-- name: move_feed_entries(rows)$
-- Takes the next step of telling readers the id of a batch that became known late; false when there is none to take.
SELECT move_feed_entries(NULL, :rows);

-- name: get_feed_consumer(name, counted)^
-- One consumer, and how far behind it is.
SELECT l.*, c.tag FROM list_feed_consumers(:name, :counted) AS l JOIN feed_consumers AS c USING (name);

-- name: list_feed_consumers(counted)
-- All consumers by name, and how far behind each is.
SELECT l.*, c.tag FROM list_feed_consumers(NULL, :counted) AS l JOIN feed_consumers AS c USING (name) ORDER BY name;

-- name: get_consumer_position(name)^
-- How far a consumer says that it is, and whether it has to be reset first; nothing for one that is not known.
SELECT position, is_cut_off FROM feed_consumers WHERE name = :name;

-- name: acknowledge_feed(name, position, is_reset, limit, tag)^
-- Records how far a consumer is, and its tag unless that is null; or says why not.
SELECT * FROM acknowledge_feed(:name, :position, :is_reset, :limit, :tag);

-- name: delete_feed_consumer(name)$
-- Forgets a consumer; null for one that is not known.
DELETE FROM feed_consumers WHERE name = :name RETURNING name;

-- name: list_fields(agent_id, after, limit, batches, names)
-- The call parameters and results that agents really have, by agent; of one agent unless that is null.
SELECT * FROM list_fields(:agent_id, :after, :limit, :batches, :names);
