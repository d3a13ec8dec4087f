-- Sets the parameters of a recipient that was known by its phone alone, with a new entry in the feed. An erased recipient
-- stays as it is. Under the ingest lock.
CREATE OR REPLACE FUNCTION set_parameters(p_batch_key bigint, p_recipient_no integer, p_parameters jsonb) RETURNS void
LANGUAGE sql
AS $$
UPDATE recipients SET parameters = p_parameters, parameters_known_at = clock_timestamp()
WHERE batch_key = p_batch_key AND recipient_no = p_recipient_no AND phone IS NOT NULL;
UPDATE outcomes SET position = nextval('feed_positions'), version = version + 1, changed_at = clock_timestamp()
WHERE batch_key = p_batch_key AND recipient_no = p_recipient_no;
$$;
