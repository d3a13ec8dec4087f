-- Callbacks: results that are a time to call back or a promise. Which results those are is a setting of the agent.

-- The setting in force for an agent, if it has one.
CREATE OR REPLACE FUNCTION find_callback_results(p_agent_id bigint)
RETURNS TABLE (setting_id bigint, results text[], time_zone text)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT s.setting_id, s.results, s.time_zone
FROM (SELECT * FROM agent_callbacks AS k WHERE k.agent_id = p_agent_id ORDER BY k.setting_id DESC LIMIT 1) AS s
WHERE s.results IS NOT NULL
$$;

-- What a result says about a callback, as text; null where it says that there is none.
CREATE OR REPLACE FUNCTION callback_text(p_result jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE WHEN lower(s.said) NOT IN ('', '-', 'none', 'null', 'nil', 'no', 'n/a', 'na', 'false', '[]', '{}') THEN left(s.said, 200) END
FROM (SELECT btrim(p_result #>> '{}', E' \t\r\n') AS said) AS s
$$;

-- When a callback is due, as far as its text is a time: ISO 8601 with or without an offset, also with AM or PM; a day; or
-- seconds or milliseconds since 1970. A day is due from its beginning on, and overdue after its end. infinity: no time, or
-- one that cannot be true. Days as 03/04/2026 are none, because they are read in two ways.
CREATE OR REPLACE FUNCTION read_due_time(p_text text, p_time_zone text, OUT due_at timestamptz, OUT overdue_at timestamptz)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_text CONSTANT text := upper(p_text);
BEGIN
    IF v_text ~ '^[0-9]{10}(\.[0-9]+)?$' THEN
        due_at := to_timestamp(v_text::double precision);
    ELSIF v_text ~ '^[0-9]{13}$' THEN
        due_at := to_timestamp(v_text::double precision / 1000);
    ELSIF v_text ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN
        due_at := v_text::timestamp AT TIME ZONE p_time_zone;
        overdue_at := (v_text::timestamp + interval '1 day') AT TIME ZONE p_time_zone;
    ELSIF v_text ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ] ?[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AP]M)?$' THEN
        due_at := replace(v_text, ',', '.')::timestamp AT TIME ZONE p_time_zone;
    ELSIF v_text ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ] ?[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AP]M)? ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN
        due_at := replace(v_text, ',', '.')::timestamptz;
    END IF;
    due_at := coalesce(plausible_time(due_at), 'infinity');
    overdue_at := CASE WHEN due_at = 'infinity' THEN due_at ELSE coalesce(overdue_at, due_at) END;
EXCEPTION WHEN data_exception THEN  -- such as 2026-02-30
    due_at := 'infinity';
    overdue_at := 'infinity';
END
$$;

-- The day on which a callback is due; null of one that is due at a time, or has none. A day has no zone: it is the same day
-- for every reader, though due_at is its beginning in the zone of the setting. Written to be inlined.
CREATE OR REPLACE FUNCTION due_day(p_value text, p_due_at timestamptz, p_overdue_at timestamptz) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE WHEN p_overdue_at > p_due_at THEN
    make_date(left(p_value, 4)::integer, substr(p_value, 6, 2)::integer, substr(p_value, 9, 2)::integer) END
$$;

-- Sets the callbacks of recipients by their outcomes and the settings of their agents, under the ingest lock. p_are_gone:
-- the recipients are about to lose their outcomes. THE definition of a callback: a named result of the latest attempt that
-- says something. A mark belongs to what was said in one call, so another call makes a new callback.
CREATE OR REPLACE FUNCTION set_callbacks(p_batch_keys bigint[], p_recipient_nos integer[], p_are_gone boolean) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    WITH given AS MATERIALIZED (
        SELECT DISTINCT t.batch_key, t.recipient_no FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    ), wanted AS MATERIALIZED (
        SELECT g.batch_key, g.recipient_no, n.name, k.agent_id, s.value, f.conversation_id, f.asked_at, d.due_at, d.overdue_at
        FROM (
            SELECT i.batch_key, b.agent_id, c.results, c.time_zone
            FROM (SELECT DISTINCT batch_key FROM given WHERE NOT p_are_gone) AS i
            CROSS JOIN LATERAL (SELECT agent_id FROM batches WHERE batches.batch_key = i.batch_key OFFSET 0) AS b
            CROSS JOIN LATERAL find_callback_results(b.agent_id) AS c
        ) AS k
        JOIN given AS g ON g.batch_key = k.batch_key
        CROSS JOIN LATERAL (
            SELECT o.arrival_id FROM outcomes AS o
            WHERE o.batch_key = g.batch_key AND o.recipient_no = g.recipient_no AND o.attempts > 0 OFFSET 0
        ) AS o
        CROSS JOIN LATERAL (
            SELECT facts.conversation_id, facts.results,
                   coalesce(plausible_time(facts.started_at), plausible_time(facts.ended_at),
                            plausible_time(facts.occurred_at), facts.recorded_at) AS asked_at
            FROM facts
            WHERE facts.batch_key = g.batch_key AND facts.recipient_no = g.recipient_no
              AND facts.arrival_id = o.arrival_id OFFSET 0
        ) AS f
        CROSS JOIN unnest(k.results) AS n (name)
        CROSS JOIN LATERAL (SELECT callback_text(f.results -> n.name) AS value OFFSET 0) AS s
        CROSS JOIN LATERAL read_due_time(s.value, k.time_zone) AS d
        WHERE s.value IS NOT NULL
    ), gone AS (
        DELETE FROM callbacks AS c
        USING given AS g
        WHERE c.batch_key = g.batch_key AND c.recipient_no = g.recipient_no
          AND NOT EXISTS (SELECT FROM wanted AS w
                          WHERE w.batch_key = c.batch_key AND w.recipient_no = c.recipient_no AND w.name = c.name)
    )
    INSERT INTO callbacks AS c (batch_key, recipient_no, name, agent_id, value, conversation_id, asked_at, due_at, overdue_at,
                                is_done)
    SELECT w.batch_key, w.recipient_no, w.name, w.agent_id, w.value, w.conversation_id, w.asked_at, w.due_at, w.overdue_at,
           EXISTS (SELECT FROM callback_marks AS m
                   WHERE m.batch_key = w.batch_key AND m.recipient_no = w.recipient_no AND m.name = w.name
                     AND m.value = w.value AND m.conversation_id = w.conversation_id)
    FROM wanted AS w
    ON CONFLICT (batch_key, recipient_no, name) DO UPDATE
    SET value = excluded.value, conversation_id = excluded.conversation_id, asked_at = excluded.asked_at,
        due_at = excluded.due_at, overdue_at = excluded.overdue_at, is_done = excluded.is_done
    WHERE (c.value, c.conversation_id, c.asked_at, c.due_at, c.overdue_at, c.is_done)
          IS DISTINCT FROM (excluded.value, excluded.conversation_id, excluded.asked_at, excluded.due_at,
                            excluded.overdue_at, excluded.is_done);
END
$$;

-- The callbacks of a recipient as its readers see them, by name; null if it has none. Written to be inlined.
CREATE OR REPLACE FUNCTION show_callbacks(p_batch_key bigint, p_recipient_no integer) RETURNS jsonb
LANGUAGE sql STABLE
AS $$
SELECT jsonb_agg(jsonb_build_object(
           'result', c.name, 'value', c.value, 'due_at', CASE WHEN isfinite(c.due_at) THEN c.due_at END,
           'due_on', due_day(c.value, c.due_at, c.overdue_at),
           'is_done', c.is_done, 'done_at', CASE WHEN c.is_done THEN m.done_at END) ORDER BY c.name)
FROM callbacks AS c
LEFT JOIN callback_marks AS m
    ON c.is_done AND m.batch_key = c.batch_key AND m.recipient_no = c.recipient_no AND m.name = c.name
WHERE c.batch_key = p_batch_key AND c.recipient_no = p_recipient_no
$$;
