-- The settings of callbacks, their marks, and the list of callbacks.

-- Sets which results of an agent are callbacks; null: none from now on. The setting that is in force already stays. Returns
-- whether anything changed. Under the ingest lock: facts that come later count by it, and those from before have their turn
-- in apply_callbacks_step(). With its line in the audit log.
CREATE OR REPLACE FUNCTION set_callback_results(
    p_agent_id bigint, p_results text[], p_time_zone text, p_actor text, p_key_id bigint, p_request_id text
) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    v_results text[];
    v_time_zone text;
BEGIN
    PERFORM lock_ingest();
    SELECT s.results, s.time_zone INTO v_results, v_time_zone FROM find_callback_results(p_agent_id) AS s;
    IF v_results IS NOT DISTINCT FROM p_results AND (p_results IS NULL OR v_time_zone = p_time_zone) THEN
        RETURN false;
    END IF;
    INSERT INTO agent_callbacks (agent_id, results, time_zone, set_at, actor)
    VALUES (p_agent_id, p_results, p_time_zone, clock_timestamp(), p_actor);
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    VALUES (p_actor, p_key_id, p_request_id, 'callbacks', 'agent ' || p_agent_id,
            CASE WHEN p_results IS NULL THEN 'removed' ELSE 'set' END,
            jsonb_build_object('results', p_results, 'time_zone', p_time_zone));
    RETURN true;
END
$$;

-- Applies a setting to some more recipients of the batches from before it, the newest batch first. One commit, which also
-- records how far it has come. Returns whether recipients are left. A setting that was replaced is left alone.
CREATE OR REPLACE FUNCTION apply_callbacks_step(p_setting_id bigint, p_recipients integer) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_setting agent_callbacks;
    v_batch   batches;
BEGIN
    PERFORM lock_ingest();
    SELECT * INTO v_setting FROM agent_callbacks AS s WHERE s.setting_id = p_setting_id AND s.applied_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT b.* INTO v_batch
    FROM batches AS b
    WHERE b.agent_id = v_setting.agent_id
      AND EXISTS (SELECT FROM contact_counts AS k WHERE k.batch_key = b.batch_key)  -- it has facts
      AND b.batch_key <= v_setting.batch_cursor - (v_setting.recipient_cursor = 0)::integer
      AND NOT EXISTS (SELECT FROM agent_callbacks AS n
                      WHERE n.agent_id = v_setting.agent_id AND n.setting_id > v_setting.setting_id)
    ORDER BY b.batch_key DESC
    LIMIT 1;
    IF NOT FOUND THEN
        UPDATE agent_callbacks SET applied_at = clock_timestamp() WHERE setting_id = p_setting_id;
        RETURN false;
    END IF;
    IF v_batch.batch_key <> v_setting.batch_cursor THEN
        v_setting.recipient_cursor := 0;
    END IF;
    PERFORM set_callbacks(
        array_agg(v_batch.batch_key), array_agg(n), false)
    FROM generate_series(v_setting.recipient_cursor + 1, v_setting.recipient_cursor + p_recipients) AS n;
    UPDATE agent_callbacks
    SET batch_cursor = v_batch.batch_key,
        recipient_cursor = CASE WHEN v_setting.recipient_cursor + p_recipients < v_batch.recipient_count
                                THEN v_setting.recipient_cursor + p_recipients ELSE 0 END
    WHERE setting_id = p_setting_id;
    RETURN true;
END
$$;

-- Marks the callbacks of a recipient as done, or as open again; p_name null: all of them. Returns unknown if there is no such
-- callback, else whether anything changed. What somebody else has done with another note is not overwritten: taken, with
-- their mark. A change is a new entry in the feed, and a line in the audit log.
DROP FUNCTION IF EXISTS mark_callbacks(bigint, integer, text, boolean, text, text, bigint, text);
CREATE OR REPLACE FUNCTION mark_callbacks(
    p_batch_id bigint, p_recipient_no integer, p_name text, p_is_done boolean, p_note text, p_actor text, p_key_id bigint,
    p_request_id text, OUT outcome text, OUT name text, OUT done_by text, OUT done_at timestamptz
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_batch_key bigint;
    v_changed   integer;
BEGIN
    PERFORM lock_ingest();
    SELECT b.batch_key INTO v_batch_key FROM batches AS b WHERE b.batch_id = p_batch_id;
    IF NOT EXISTS (SELECT FROM callbacks AS c WHERE c.batch_key = v_batch_key AND c.recipient_no = p_recipient_no
                   AND (p_name IS NULL OR c.name = p_name)) THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    IF p_is_done THEN
        SELECT 'taken', m.name, m.actor, m.done_at INTO outcome, name, done_by, done_at
        FROM callbacks AS c
        JOIN callback_marks AS m
            ON m.batch_key = c.batch_key AND m.recipient_no = c.recipient_no AND m.name = c.name
        WHERE c.batch_key = v_batch_key AND c.recipient_no = p_recipient_no AND (p_name IS NULL OR c.name = p_name)
          AND c.is_done AND m.actor <> p_actor AND m.note IS DISTINCT FROM p_note
        ORDER BY m.name
        LIMIT 1;
        IF FOUND THEN
            RETURN;
        END IF;
        INSERT INTO callback_marks AS m (batch_key, recipient_no, name, value, conversation_id, done_at, actor, note)
        SELECT c.batch_key, c.recipient_no, c.name, c.value, c.conversation_id, clock_timestamp(), p_actor, p_note
        FROM callbacks AS c
        WHERE c.batch_key = v_batch_key AND c.recipient_no = p_recipient_no AND (p_name IS NULL OR c.name = p_name)
        ON CONFLICT (batch_key, recipient_no, name) DO UPDATE
        SET value = excluded.value, conversation_id = excluded.conversation_id, done_at = excluded.done_at,
            actor = excluded.actor, note = excluded.note
        WHERE (m.value, m.conversation_id, m.note) IS DISTINCT FROM (excluded.value, excluded.conversation_id, excluded.note);
    ELSE
        DELETE FROM callback_marks AS m
        WHERE m.batch_key = v_batch_key AND m.recipient_no = p_recipient_no AND (p_name IS NULL OR m.name = p_name);
    END IF;
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    IF v_changed = 0 THEN
        outcome := 'unchanged';
        RETURN;
    END IF;
    PERFORM set_callbacks(ARRAY[v_batch_key], ARRAY[p_recipient_no], false);
    UPDATE outcomes AS o
    SET position = nextval('feed_positions'), version = o.version + 1, changed_at = clock_timestamp()
    WHERE o.batch_key = v_batch_key AND o.recipient_no = p_recipient_no;
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = v_batch_key;
    INSERT INTO audit_log (actor, key_id, request_id, action, subject, outcome, details)
    VALUES (p_actor, p_key_id, p_request_id, 'callback', 'batch ' || p_batch_id || ', recipient ' || p_recipient_no,
            CASE WHEN p_is_done THEN 'done' ELSE 'open' END, jsonb_build_object('callbacks', v_changed));
    outcome := 'changed';
END
$$;

-- Whether a callback is due from p_from on and before p_to; null p_to: whenever. Where the reader gave a day (p_from_day,
-- p_to_day, both included), a callback that is due on a day is compared with that day instead. Written to be inlined.
CREATE OR REPLACE FUNCTION is_due_within(
    p_value text, p_due_at timestamptz, p_overdue_at timestamptz, p_from timestamptz, p_to timestamptz, p_from_day date,
    p_to_day date
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE WHEN p_from_day IS NOT NULL AND p_overdue_at > p_due_at
            THEN due_day(p_value, p_due_at, p_overdue_at) >= p_from_day ELSE p_due_at >= p_from END
   AND CASE WHEN p_to_day IS NOT NULL AND p_overdue_at > p_due_at
            THEN due_day(p_value, p_due_at, p_overdue_at) <= p_to_day ELSE p_to IS NULL OR p_due_at < p_to END
$$;

-- Callbacks by when they are due, of one batch, of one agent or of all, after a given one. p_done: which of the two states.
-- Due as in is_due_within(); those without a time come last, and only without p_to. p_overdue_at: only those that are
-- overdue then. Reads no more than the page from an index, and what is left out: days that are not over yet, and at either
-- end of the period what begins within the hours by which zones differ.
DROP FUNCTION IF EXISTS list_callbacks(bigint, bigint, boolean[], timestamptz, timestamptz, timestamptz, timestamptz, bigint, integer);
CREATE OR REPLACE FUNCTION list_callbacks(
    p_batch_key bigint, p_agent_id bigint, p_done boolean[], p_from timestamptz, p_to timestamptz, p_overdue_at timestamptz,
    p_after_due timestamptz, p_after_no bigint, p_limit integer, p_from_day date DEFAULT NULL, p_to_day date DEFAULT NULL
) RETURNS SETOF callbacks
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    -- A day begins up to 26 hours earlier in the zone of a setting than in the reader's, or as many later.
    v_from CONSTANT timestamptz := CASE WHEN p_from_day IS NULL THEN p_from ELSE p_from - interval '26 hours' END;
    v_to   CONSTANT timestamptz := least(CASE WHEN p_to_day IS NULL THEN p_to ELSE p_to + interval '26 hours' END,
                                         p_overdue_at + interval '1 microsecond');
BEGIN
    RETURN QUERY
    SELECT l.*
    FROM unnest(p_done) AS d (is_done)
    CROSS JOIN LATERAL (
        (SELECT * FROM callbacks AS c
         WHERE p_batch_key IS NOT NULL AND c.batch_key = p_batch_key AND c.is_done = d.is_done
           AND (p_agent_id IS NULL OR c.agent_id = p_agent_id)
           AND (c.due_at, c.callback_no) > (p_after_due, p_after_no) AND c.due_at >= v_from
           AND (v_to IS NULL OR c.due_at < v_to) AND (p_overdue_at IS NULL OR c.overdue_at <= p_overdue_at)
           AND is_due_within(c.value, c.due_at, c.overdue_at, p_from, p_to, p_from_day, p_to_day)
         ORDER BY c.due_at, c.callback_no LIMIT p_limit)
        UNION ALL
        (SELECT * FROM callbacks AS c
         WHERE p_batch_key IS NULL AND c.agent_id = p_agent_id AND c.is_done = d.is_done
           AND (c.due_at, c.callback_no) > (p_after_due, p_after_no) AND c.due_at >= v_from
           AND (v_to IS NULL OR c.due_at < v_to) AND (p_overdue_at IS NULL OR c.overdue_at <= p_overdue_at)
           AND is_due_within(c.value, c.due_at, c.overdue_at, p_from, p_to, p_from_day, p_to_day)
         ORDER BY c.due_at, c.callback_no LIMIT p_limit)
        UNION ALL
        (SELECT * FROM callbacks AS c
         WHERE p_batch_key IS NULL AND p_agent_id IS NULL AND c.is_done = d.is_done
           AND (c.due_at, c.callback_no) > (p_after_due, p_after_no) AND c.due_at >= v_from
           AND (v_to IS NULL OR c.due_at < v_to) AND (p_overdue_at IS NULL OR c.overdue_at <= p_overdue_at)
           AND is_due_within(c.value, c.due_at, c.overdue_at, p_from, p_to, p_from_day, p_to_day)
         ORDER BY c.due_at, c.callback_no LIMIT p_limit)
    ) AS l
    ORDER BY l.due_at, l.callback_no
    LIMIT p_limit;
END
$$;

-- Callbacks as list_callbacks() finds them, in its order, each with its batch, its recipient and its mark.
CREATE OR REPLACE FUNCTION describe_callbacks(
    p_batch_key bigint, p_agent_id bigint, p_done boolean[], p_from timestamptz, p_to timestamptz, p_overdue_at timestamptz,
    p_after_due timestamptz, p_after_no bigint, p_limit integer, p_from_day date DEFAULT NULL, p_to_day date DEFAULT NULL
) RETURNS TABLE (
    callback_no bigint, batch_key bigint, batch_id bigint, batch_name text, agent_id bigint, recipient integer, phone text,
    parameters jsonb, result text, value text, due_at timestamptz, due_on date, is_day boolean, asked_at timestamptz,
    state text, done_at timestamptz, done_by text, note text, conversation_id text
)
LANGUAGE sql STABLE
AS $$
SELECT c.callback_no, c.batch_key, b.batch_id, b.name, c.agent_id, c.recipient_no, r.phone, r.parameters, c.name, c.value,
       nullif(c.due_at, 'infinity'), due_day(c.value, c.due_at, c.overdue_at), c.overdue_at > c.due_at, c.asked_at,
       CASE WHEN c.is_done THEN 'done' WHEN c.overdue_at <= clock_timestamp() THEN 'overdue' ELSE 'open' END,
       m.done_at, m.actor, m.note, c.conversation_id
FROM list_callbacks(p_batch_key, p_agent_id, p_done, p_from, p_to, p_overdue_at, p_after_due, p_after_no, p_limit,
                    p_from_day, p_to_day) AS c
LEFT JOIN LATERAL (SELECT * FROM batches WHERE batches.batch_key = c.batch_key OFFSET 0) AS b ON true
LEFT JOIN LATERAL (
    SELECT * FROM recipients WHERE recipients.batch_key = c.batch_key AND recipients.recipient_no = c.recipient_no OFFSET 0
) AS r ON true
LEFT JOIN LATERAL (
    SELECT * FROM callback_marks AS k
    WHERE c.is_done AND k.batch_key = c.batch_key AND k.recipient_no = c.recipient_no AND k.name = c.name OFFSET 0
) AS m ON true
$$;

-- The same as rows of exports, with the results of the latest attempt, which the callback is one of. time_zone: that of the
-- times of the file. A day is due_on, and has no due_at, which would be a time of that zone.
CREATE OR REPLACE FUNCTION callback_rows(
    p_batch_key bigint, p_agent_id bigint, p_done boolean[], p_from timestamptz, p_to timestamptz, p_overdue_at timestamptz,
    p_after_due timestamptz, p_after_no bigint, p_limit integer, p_from_day date DEFAULT NULL, p_to_day date DEFAULT NULL
) RETURNS TABLE (
    due_at timestamptz, due_on date, time_zone text, is_day boolean, state text, result text, value text, phone text, batch_id bigint,
    batch_name text, agent_id bigint, recipient integer, asked_at timestamptz, done_at timestamptz, done_by text, note text,
    conversation_id text, results jsonb, parameters jsonb
)
LANGUAGE sql STABLE
AS $$
SELECT CASE WHEN NOT d.is_day THEN d.due_at END, d.due_on, current_setting('TimeZone'), d.is_day, d.state, d.result, d.value, d.phone, d.batch_id, d.batch_name,
       d.agent_id, d.recipient, d.asked_at, d.done_at, d.done_by, d.note, d.conversation_id, f.results, d.parameters
FROM describe_callbacks(p_batch_key, p_agent_id, p_done, p_from, p_to, p_overdue_at, p_after_due, p_after_no, p_limit,
                        p_from_day, p_to_day) AS d
LEFT JOIN LATERAL (
    SELECT o.arrival_id FROM outcomes AS o
    WHERE o.batch_key = d.batch_key AND o.recipient_no = d.recipient OFFSET 0
) AS o ON true
LEFT JOIN LATERAL (
    SELECT facts.results FROM facts
    WHERE facts.batch_key = d.batch_key AND facts.recipient_no = d.recipient AND facts.arrival_id = o.arrival_id OFFSET 0
) AS f ON true
ORDER BY d.due_at NULLS LAST, d.callback_no
$$;
