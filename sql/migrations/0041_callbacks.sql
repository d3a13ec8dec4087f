-- The scope people of keys; the words of a person's name, by which 0043 indexes recipients; and callbacks: which results of
-- an agent's calls are a time to call back or a promise, and the recipients whose latest attempt has one.

-- compatible-from: 0032
-- migrate:up
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes
    CHECK (cardinality(scopes) > 0 AND scopes <@ '{read,upload,feed,people,admin}'::text[]) NOT VALID;
ALTER TABLE api_keys VALIDATE CONSTRAINT api_keys_scopes;

-- In a migration, because an index depends on it: with other words the index would have to be built again. It runs for every
-- recipient that is stored, so it looks parameters up by name instead of looking through all of them.
CREATE FUNCTION name_words(p_parameters jsonb) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    v_names CONSTANT text := concat_ws(' ',
        p_parameters ->> 'name', p_parameters ->> 'Name', p_parameters ->> 'full_name', p_parameters ->> 'fullName',
        p_parameters ->> 'first_name', p_parameters ->> 'firstName', p_parameters ->> 'last_name',
        p_parameters ->> 'lastName', p_parameters ->> 'surname', p_parameters ->> 'customer_name',
        p_parameters ->> 'customerName', p_parameters ->> 'client_name', p_parameters ->> 'contact_name',
        p_parameters ->> 'borrower_name', p_parameters ->> 'Full Name', p_parameters ->> 'First Name',
        p_parameters ->> 'Last Name', p_parameters ->> 'Customer Name');
BEGIN
    IF v_names = '' THEN
        RETURN '';
    END IF;
    RETURN array_to_tsvector(array_remove(string_to_array(
        translate(left(lower(v_names), 400), E'\t\r\n.,;:/()_"''\\|&!<>*-', repeat(' ', 21)), ' '), ''));
END
$$;
COMMENT ON FUNCTION name_words IS
    'The words of the parameters that hold a person''s name, by the parameters'' names, in lower case: what people are found by.';

CREATE TABLE agent_callbacks (
    setting_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id         bigint      NOT NULL,
    results          text[],
    time_zone        text        NOT NULL,
    set_at           timestamptz NOT NULL,
    actor            text        NOT NULL,
    applied_at       timestamptz,
    batch_cursor     bigint      NOT NULL DEFAULT 9223372036854775807,
    recipient_cursor integer     NOT NULL DEFAULT 0
);
COMMENT ON TABLE agent_callbacks IS
    'Which results of an agent''s calls are callbacks, present and past; an agent''s latest row is in force. Rows are added under the ingest lock, and only their progress changes.';
COMMENT ON COLUMN agent_callbacks.results IS 'The names of the results. Null: from then on the agent has no callbacks.';
COMMENT ON COLUMN agent_callbacks.time_zone IS 'The zone of days and of times without an offset.';
COMMENT ON COLUMN agent_callbacks.actor IS 'The key that it was set with.';
COMMENT ON COLUMN agent_callbacks.applied_at IS 'When the last of the batches from before it had its callbacks; null until then.';
COMMENT ON COLUMN agent_callbacks.batch_cursor IS 'How far that has come: through the batches after this one, newest first,';
COMMENT ON COLUMN agent_callbacks.recipient_cursor IS 'and in this one up to this recipient.';
CREATE INDEX agent_callbacks_agent ON agent_callbacks (agent_id, setting_id DESC);
CREATE INDEX agent_callbacks_unapplied ON agent_callbacks (setting_id) WHERE applied_at IS NULL;

CREATE TABLE callbacks (
    batch_key       bigint  NOT NULL,
    recipient_no    integer NOT NULL,
    name            text COLLATE "C" NOT NULL,
    callback_no     bigint GENERATED ALWAYS AS IDENTITY,
    agent_id        bigint  NOT NULL,
    value           text    NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    asked_at        timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    overdue_at      timestamptz NOT NULL,
    is_done         boolean NOT NULL,
    PRIMARY KEY (batch_key, recipient_no, name)
);
COMMENT ON TABLE callbacks IS
    'Recipients whose latest attempt has a result that is a callback by the setting of their agent. Derived from facts, agent_callbacks and callback_marks by set_callbacks(), its only writer beside mark_callbacks().';
COMMENT ON COLUMN callbacks.name IS 'The name of the result.';
COMMENT ON COLUMN callbacks.value IS 'What it says, as text.';
COMMENT ON COLUMN callbacks.conversation_id IS 'The call in which it was said.';
COMMENT ON COLUMN callbacks.due_at IS 'infinity where the text cannot be read as a time. Of a day its beginning.';
COMMENT ON COLUMN callbacks.overdue_at IS 'due_at, or the end of the day.';
COMMENT ON COLUMN callbacks.is_done IS 'Whether callback_marks has a mark for it.';
CREATE INDEX callbacks_due ON callbacks (is_done, due_at, callback_no);
CREATE INDEX callbacks_agent_due ON callbacks (agent_id, is_done, due_at, callback_no);
CREATE INDEX callbacks_batch_due ON callbacks (batch_key, is_done, due_at, callback_no);

CREATE TABLE callback_marks (
    batch_key       bigint  NOT NULL,
    recipient_no    integer NOT NULL,
    name            text COLLATE "C" NOT NULL,
    value           text    NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    done_at         timestamptz NOT NULL,
    actor           text    NOT NULL,
    note            text,
    PRIMARY KEY (batch_key, recipient_no, name)
);
COMMENT ON TABLE callback_marks IS
    'Callbacks that somebody marked as done. A mark is for what was said in one call, so another call makes a new callback. It stays when the callback itself goes.';
COMMENT ON COLUMN callback_marks.actor IS 'The key that it was marked with.';

-- migrate:down
DROP TABLE callback_marks, callbacks, agent_callbacks;
DROP FUNCTION name_words(jsonb);
UPDATE api_keys SET scopes = array_remove(scopes, 'people') WHERE 'people' = ANY (scopes) AND cardinality(scopes) > 1;
DELETE FROM api_keys WHERE 'people' = ANY (scopes);
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ '{read,upload,feed,admin}'::text[]);
