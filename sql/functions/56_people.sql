-- People across batches: a person is a phone in E.164. All look-ups are by index, whatever the statistics say.

-- The people of recipients with a parameter or with the words of a name, each with the place of the latest such recipient.
-- p_contained: parameters that the recipient has; p_or_contained: or has instead; p_words: words of the name, see name_words().
-- Looks at p_most recipients at most; matches says at how many, so p_most means that there may be more.
CREATE OR REPLACE FUNCTION match_people(p_contained jsonb, p_or_contained jsonb, p_words tsquery, p_most integer)
RETURNS TABLE (phone text, place bigint, matches bigint)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH matched AS MATERIALIZED (
        (SELECT r.phone, r.batch_key, r.recipient_no
         FROM recipients AS r
         WHERE p_words IS NULL AND (r.parameters @> p_contained OR r.parameters @> p_or_contained) AND r.phone IS NOT NULL
         LIMIT p_most)
        UNION ALL
        (SELECT r.phone, r.batch_key, r.recipient_no
         FROM recipients AS r
         WHERE p_words IS NOT NULL AND name_words(r.parameters) @@ p_words AND r.phone IS NOT NULL
         LIMIT p_most)
    )
    SELECT m.phone, max(m.batch_key * 2147483648 + m.recipient_no), (SELECT count(*) FROM matched)
    FROM matched AS m
    GROUP BY m.phone;
END
$$;

-- The latest recipients of people, at most p_most of each.
CREATE OR REPLACE FUNCTION list_recipients_of(p_phones text[], p_most integer)
RETURNS TABLE (phone text, batch_key bigint, recipient_no integer)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT p.phone, r.batch_key, r.recipient_no
    FROM unnest(p_phones) AS p (phone)
    CROSS JOIN LATERAL (
        SELECT k.batch_key, k.recipient_no FROM recipients AS k
        WHERE k.phone = p.phone
        ORDER BY k.batch_key DESC, k.recipient_no DESC LIMIT p_most
    ) AS r;
END
$$;

-- Whom these phones are known as: how often in batches, in calls outside them and in events that fit none, and whether they are
-- suppressed. Nothing for a phone that is not known.
CREATE OR REPLACE FUNCTION known_people(p_phones text[])
RETURNS TABLE (
    phone text, person text, recipients integer, other_calls integer, unattributed integer, reason text, source text,
    since timestamptz
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT h.phone, left(encode(h.phone_hash, 'hex'), 16), k.recipients, k.other_calls, k.unattributed, s.reason, s.source,
           s.since
    FROM hash_phones(p_phones) AS h
    CROSS JOIN LATERAL (
        SELECT (SELECT count(*)::integer FROM recipients AS r WHERE r.phone = h.phone) AS recipients,
               (SELECT count(*)::integer FROM other_events AS o WHERE o.phone = h.phone AND o.is_counted) AS other_calls,
               (SELECT count(*)::integer FROM unattributed AS u WHERE u.phone = h.phone) AS unattributed
    ) AS k
    LEFT JOIN LATERAL (
        SELECT * FROM suppressions AS l WHERE l.phone_hash = h.phone_hash AND l.lifted_at IS NULL OFFSET 0
    ) AS s ON true
    WHERE k.recipients > 0 OR k.other_calls > 0 OR k.unattributed > 0;
END
$$;

-- Everything that is known to have happened to a person, and what is due, in no order: of at most p_most recipients, the
-- latest. It costs what the person's own recipients and calls cost.
DROP FUNCTION IF EXISTS person_timeline(text, integer);
CREATE OR REPLACE FUNCTION person_timeline(p_phone text, p_most integer)
RETURNS TABLE (
    at timestamptz, kind text, batch_id bigint, batch_name text, agent_id bigint, recipient integer, event_id text,
    conversation_id text, attempt_number integer, status text, is_final boolean, duration_seconds integer,
    failure_reason text, results jsonb, meets_goal boolean, callbacks jsonb, source text, detail text, actor text, due_on date
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_keys bigint[];
    v_nos  integer[];
BEGIN
    SELECT array_agg(r.batch_key), array_agg(r.recipient_no) INTO v_keys, v_nos
    FROM list_recipients_of(ARRAY[p_phone], p_most) AS r;
    RETURN QUERY
    WITH mine AS MATERIALIZED (
        SELECT t.batch_key, t.recipient_no, b.batch_id, b.name, b.agent_id, b.upload_state, r.withdrawn_at,
               coalesce(plausible_time(b.created_at), b.sent_at, b.prepared_at) AS uploaded_at, g.rule, c.results, c.time_zone
        FROM unnest(v_keys, v_nos) AS t (batch_key, recipient_no)
        CROSS JOIN LATERAL (SELECT * FROM batches WHERE batches.batch_key = t.batch_key OFFSET 0) AS b
        CROSS JOIN LATERAL (SELECT * FROM recipients WHERE recipients.batch_key = t.batch_key
                            AND recipients.recipient_no = t.recipient_no OFFSET 0) AS r
        LEFT JOIN LATERAL (SELECT batch_goals.rule FROM batch_goals WHERE batch_goals.batch_key = b.batch_key OFFSET 0) AS g ON true
        LEFT JOIN LATERAL find_callback_results(b.agent_id) AS c ON true
    ), attempts AS MATERIALIZED (
        SELECT a.*, f.recorded_at
        FROM attempts_of(v_keys, v_nos, NULL) AS a
        CROSS JOIN LATERAL (SELECT facts.recorded_at FROM facts WHERE facts.batch_key = a.batch_key
                            AND facts.recipient_no = a.recipient_no AND facts.arrival_id = a.arrival_id OFFSET 0) AS f
    ), steps AS (
        SELECT m.uploaded_at AS at, 'uploaded' AS kind, m.batch_key, m.recipient_no, NULL::text AS event_id,
               NULL::text AS conversation_id, NULL::integer AS attempt_number, NULL::text AS status, NULL::boolean AS is_final,
               NULL::integer AS duration_seconds, NULL::text AS failure_reason, NULL::jsonb AS results,
               NULL::boolean AS meets_goal, NULL::jsonb AS callbacks, NULL::text AS source, m.upload_state AS detail,
               NULL::text AS actor, NULL::bigint AS agent_id, NULL::date AS due_on
        FROM mine AS m
        UNION ALL
        SELECT m.withdrawn_at, 'withdrawn', m.batch_key, m.recipient_no, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
               NULL, NULL, NULL, NULL, NULL, NULL
        FROM mine AS m WHERE m.withdrawn_at IS NOT NULL
        UNION ALL
        SELECT coalesce(plausible_time(a.called_at), a.recorded_at), 'attempt', m.batch_key, m.recipient_no, a.event_id,
               a.conversation_id, a.attempt_number, a.status, a.is_final, a.duration_seconds, a.failure_reason, a.results,
               CASE WHEN m.rule IS NOT NULL THEN meets_goal(a.results, m.rule) END,
               (SELECT jsonb_agg(jsonb_build_object('result', n.name, 'value', s.value,
                                                    'due_at', nullif(d.due_at, 'infinity'),
                                                    'due_on', due_day(s.value, d.due_at, d.overdue_at)) ORDER BY n.name)
                FROM unnest(m.results) AS n (name)
                CROSS JOIN LATERAL (SELECT callback_text(a.results -> n.name) AS value) AS s
                CROSS JOIN LATERAL read_due_time(s.value, m.time_zone) AS d
                WHERE s.value IS NOT NULL),
               a.source, NULL, NULL, NULL, NULL
        FROM attempts AS a
        JOIN mine AS m ON m.batch_key = a.batch_key AND m.recipient_no = a.recipient_no
        UNION ALL
        SELECT plausible_time(f.next_retry_at), 'retry', m.batch_key, m.recipient_no, f.event_id, NULL, NULL, NULL, NULL, NULL,
               NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM mine AS m
        CROSS JOIN LATERAL (SELECT o.arrival_id FROM outcomes AS o WHERE o.batch_key = m.batch_key
                            AND o.recipient_no = m.recipient_no AND o.state = 'pending_retry' OFFSET 0) AS o
        CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.batch_key = m.batch_key
                            AND facts.recipient_no = m.recipient_no AND facts.arrival_id = o.arrival_id OFFSET 0) AS f
        WHERE plausible_time(f.next_retry_at) IS NOT NULL
        UNION ALL
        SELECT c.due_at, 'callback_due', m.batch_key, m.recipient_no, NULL, c.conversation_id, NULL, NULL, NULL, NULL, NULL,
               NULL, NULL, NULL, NULL, c.name || ': ' || c.value, NULL, NULL,
               due_day(c.value, c.due_at, c.overdue_at)
        FROM mine AS m
        CROSS JOIN LATERAL (SELECT * FROM callbacks AS k WHERE k.batch_key = m.batch_key
                            AND k.recipient_no = m.recipient_no OFFSET 0) AS c
        WHERE NOT c.is_done AND isfinite(c.due_at)
        UNION ALL
        SELECT k.done_at, 'callback_done', m.batch_key, m.recipient_no, NULL, k.conversation_id, NULL, NULL, NULL, NULL, NULL,
               NULL, NULL, NULL, NULL, concat_ws(', ', k.name || ': ' || k.value, k.note), k.actor, NULL, NULL
        FROM mine AS m
        CROSS JOIN LATERAL (SELECT * FROM callback_marks AS k WHERE k.batch_key = m.batch_key
                            AND k.recipient_no = m.recipient_no OFFSET 0) AS k
        UNION ALL
        SELECT o.called_at, 'other_call', NULL, NULL, o.event_id, o.conversation_id, o.attempt_number, o.status, NULL,
               o.duration_seconds, o.failure_reason, o.results, NULL, NULL, o.source, o.kind, NULL, o.agent_id, NULL
        FROM other_events AS o WHERE o.phone = p_phone AND o.is_counted
        UNION ALL
        SELECT u.received_at, 'unattributed', NULL, NULL, u.event_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
               NULL, u.reason, NULL, u.agent_id, NULL
        FROM unattributed AS u WHERE u.phone = p_phone
        UNION ALL
        SELECT k.at, k.kind, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, s.source, s.reason,
               s.actor, s.agent_id, NULL
        FROM suppressions AS s
        CROSS JOIN LATERAL (VALUES (s.since, 'suppressed'), (s.lifted_at, 'suppression_lifted')) AS k (at, kind)
        WHERE s.phone_hash = hash_person('phone', p_phone) AND k.at IS NOT NULL
    )
    SELECT s.at, s.kind, m.batch_id, m.name, coalesce(s.agent_id, m.agent_id), s.recipient_no, s.event_id, s.conversation_id,
           s.attempt_number, s.status, s.is_final, s.duration_seconds, s.failure_reason, s.results, s.meets_goal, s.callbacks,
           s.source, s.detail, s.actor, s.due_on
    FROM steps AS s
    LEFT JOIN mine AS m ON m.batch_key = s.batch_key AND m.recipient_no = s.recipient_no;
END
$$;
