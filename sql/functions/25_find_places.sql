-- When a batch's calls may have begun. exact: until the provider was seen to have finished it, and no later than the last
-- call known when its figures were found to agree. span: the same, with five minutes' allowance for different clocks,
-- except after that call, which the provider's own clock timed.
CREATE OR REPLACE FUNCTION batch_span(p_batch batches, OUT span tstzrange, OUT exact tstzrange)
LANGUAGE sql STABLE
AS $$
SELECT tstzrange(t.began_at - interval '5 minutes',
                 greatest(least(t.closed_at + interval '5 minutes', t.last_call_at), t.began_at), '[]'),
       tstzrange(t.began_at, greatest(least(t.closed_at, t.last_call_at), t.began_at), '[]')
FROM (
    SELECT least(p_batch.prepared_at, p_batch.created_at) AS began_at,
           coalesce(p_batch.closed_at, 'infinity'::timestamptz) AS closed_at,
           (SELECT s.ends_at + interval '2 s' FROM batch_schedules AS s
            WHERE s.batch_key = p_batch.batch_key) AS last_call_at
) AS t
$$;

-- The one rule for events that no reference names. For the events of an agent and phone whose calls began from p_from to
-- p_until (null: unbounded) it returns where each belongs and where it is now. It changes nothing: place_events() moves
-- them, check_places() reports them. A place depends on earlier calls only, so later ones need not be read.
--
-- An event that a person assigned is where they put it (see assign_event()), for as long as that recipient is there. This
-- says nothing about other calls: it ends the recipient for none, nor do the other events of its call that follow it, unless
-- a reference names them. All others:
--
-- 0. A call that a rule knows to be outside batches has no place here, nor has any event of it: the reason is other_call.
--    Nor has an event whose call is said to be with another phone, too (see contradicts_phone()): it has no_batch.
-- 1. The events of one call share one place: see group_calls().
-- 2. A call with an event placed by reference, by a person, or placed earlier, goes there. An event without a time alone does not
--    suffice if the batch was finished before the call, or if the conversation has other calls and the recipient was final
--    before this one.
-- 3. Otherwise its candidates are
--    - the recipient that its parameters name by reference, if due: ingest() leaves that to this rule if the batch was
--      seen finished before the call. A finished one is not called again, so the call may come from a copy of the
--      batch's file: then only a recipient with exactly these parameters is a candidate, and no window;
--    - recipients with the phone that are due: their batch existed and was not finished when the call began, and no final
--      call of theirs began more than two seconds before (see ends_recipient()). Calls are placed in the order in which
--      they began, those without a time last. A call with parameters never fits a batch whose calls carry references; it
--      fits another batch only if it has all the parameters of the recipient, since the provider returns every column;
--    - windows: batches whose recipients are unknown and that were open when the call began. In a window it fits the due
--      recipient with the same parameters, or else the one known by phone alone, or else a new one while the window has
--      fewer recipients than the provider says. A call without parameters fits each due recipient with the phone, and a
--      new one only if there is none. A call without a time fits no window, and no batch that began after the event came;
--    - withheld batches (see note_batches()): like windows, except beside a due recipient of the upload that they may be.
--      A call whose only candidate is one of them is ambiguous.
-- 4. One candidate: it goes there. Several are narrowed down in turn, as long as any are left: to those with a call of the
--    same conversation, to those with equal parameters, to those whose exact span it fits. If several are left, it is
--    ambiguous; if there was none, it has no_batch.
--
-- Parameters are compared by meaning: see comparable_parameters(). A call whose parameters are all empty has none.
--
-- is_erased: the only candidates were erased recipients. A recipient_no below zero stands for a new recipient of batch_key
-- with parameters; events with the same one share it.
CREATE OR REPLACE FUNCTION find_places(p_agent_id bigint, p_phone text, p_from timestamptz, p_until timestamptz)
RETURNS TABLE (
    arrival_id bigint, at_batch bigint, at_recipient integer, batch_key bigint, recipient_no integer, parameters jsonb,
    method text, reason text, is_erased boolean
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_slack     CONSTANT interval := '2 s';
    v_margin    CONSTANT interval := '10 s';  -- an event just outside the span may belong to the same call
    v_until     CONSTANT timestamptz := coalesce(p_until + v_margin, 'infinity');
    v_hash      bytea;
    v_erased_at timestamptz;
    v_events    bigint[];       -- the events to place
    v_assigned  bigint[] := '{}';  -- those that a person assigned, which are placed already
    v_others    bigint[] := '{}';  -- those of calls outside batches
    v_disputed  bigint[];       -- those of calls with another phone, too
    v_conversations text[];     -- their conversations, also in the form that erased recipients have
    v_hashes    text[];
    v_first     timestamptz;
    v_last      timestamptz;
    v_is_untimed boolean;       -- one of them has no time
    -- Recipients that a call may go to, as parallel arrays; those of windows are added as calls create them.
    s_batches   bigint[];
    s_nos       integer[];
    s_parameters jsonb[];       -- in the form used to compare
    s_said      jsonb[];        -- and as they were sent
    s_windows   boolean[];      -- the batch's recipients are not known
    s_erased    boolean[];
    s_only_same boolean[];      -- a candidate only for calls that have a fact here
    s_spans     tstzrange[];    -- see batch_span()
    s_exacts    tstzrange[];
    s_bearing   boolean[];      -- its calls carry references
    s_ref_columns text[];
    s_references text[];        -- the file's value in the column of references
    s_named     jsonb[];        -- the parameters of a call with the recipient's reference
    s_final_at  timestamptz[];  -- since when it has been final
    s_known_final_at timestamptz[];  -- the same, without events that have no time
    s_by_hand   jsonb[];        -- the conversations of calls that a person placed there
    -- The known calls: the events to place, and the facts of their conversations, which stay where they are.
    t_arrivals  bigint[];
    t_slots     integer[];      -- null for the events to place
    t_conversations text[];
    t_started   timestamptz[];
    t_called    timestamptz[];
    t_until     timestamptz[];
    t_attempts  integer[];
    t_parameters jsonb[];
    -- Windows, as parallel arrays.
    w_batches   bigint[];       -- below zero: a withheld batch, and the upload that it may be
    w_spans     tstzrange[];
    w_exacts    tstzrange[];
    w_busy      boolean[];      -- its CSV is being registered
    w_room      bigint[];
    v_call      record;
    v_row       record;
    v_slots     integer[];      -- the candidates of the call: slots, and below zero windows, for a new recipient
    v_equals    integer[];
    v_references integer[];     -- the recipient that the call names
    v_named     integer[];      -- those with a call of the same conversation
    v_held      integer[];      -- slots of the calls placed so far, parallel to their conversations
    v_held_conversations text[];
    v_own       integer[];
    v_exact     integer[];
    v_found     integer;
    v_is_busy   boolean;
    v_reason    text;
    v_free      integer := 0;
    v_places    integer[];      -- a slot for each call's events, in turn
    v_reasons   text[];
    v_arrivals  bigint[];
    v_erased    boolean[];      -- it may belong to erased recipients alone
    v_known_no  integer;
BEGIN
    SELECT array_agg(u.arrival_id), min(u.called_at), max(u.called_at), array_agg(DISTINCT u.conversation_id),
           bool_or(u.called_at IS NULL)
    INTO v_events, v_first, v_last, v_conversations, v_is_untimed
    FROM unreferenced_events AS u
    WHERE u.agent_id = p_agent_id AND u.phone = p_phone
      AND (u.called_at BETWEEN coalesce(p_from - v_margin, '-infinity') AND v_until OR u.called_at IS NULL);
    IF EXISTS (SELECT FROM assignments) THEN
        v_assigned := ARRAY(
            SELECT a.arrival_id FROM assignments AS a
            JOIN recipients AS r ON r.batch_key = a.batch_key AND r.recipient_no = a.recipient_no AND r.withdrawn_at IS NULL
            WHERE a.arrival_id = ANY (v_events));
        RETURN QUERY
        SELECT a.arrival_id, f.batch_key, f.recipient_no, a.batch_key, a.recipient_no, NULL::jsonb, 'manual', NULL::text, false
        FROM assignments AS a
        LEFT JOIN LATERAL (SELECT * FROM facts AS k WHERE k.arrival_id = a.arrival_id OFFSET 0) AS f ON true
        WHERE a.arrival_id = ANY (v_assigned);
        v_events := nullif(ARRAY(SELECT e FROM unnest(v_events) AS e WHERE e <> ALL (v_assigned)), '{}');
    END IF;
    IF v_events IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM other_events) THEN
        v_others := ARRAY(
            SELECT u.arrival_id
            FROM unnest(v_events) AS e (arrival_id)
            CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k WHERE k.arrival_id = e.arrival_id OFFSET 0) AS u
            WHERE EXISTS (SELECT FROM find_rulings(u.agent_id, u.conversation_id, u.started_at, u.called_at, u.until,
                                                   u.attempt_number, u.parameters)));
    END IF;
    v_disputed := ARRAY(
        SELECT u.arrival_id
        FROM unnest(v_events) AS e (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k WHERE k.arrival_id = e.arrival_id OFFSET 0) AS u
        WHERE u.arrival_id <> ALL (v_others)
          AND contradicts_phone(u.agent_id, u.phone, u.conversation_id, u.started_at, u.called_at, u.until,
                                u.attempt_number, u.parameters));
    IF EXISTS (SELECT FROM erased_phones) THEN
        v_hashes := ARRAY(SELECT hash_call(c) FROM unnest(v_conversations) AS c);
        v_hash := hash_person('phone', p_phone);
        SELECT e.erased_at INTO v_erased_at FROM erased_phones AS e WHERE e.phone_hash = v_hash;
    END IF;

    SELECT array_agg(c.batch_key), array_agg(c.recipient_no), array_agg(c.parameters), array_agg(c.said),
           array_agg(NOT c.is_registered),
           array_agg(c.is_erased), array_agg(c.is_only_same), array_agg(c.span), array_agg(c.exact),
           array_agg(c.has_references), array_agg(c.ref_column), array_agg(c.named), array_agg(c.reference),
           array_agg(c.final_at), array_agg(c.known_final_at), array_agg(c.by_hand)
    INTO s_batches, s_nos, s_parameters, s_said, s_windows, s_erased, s_only_same, s_spans, s_exacts, s_bearing,
         s_ref_columns, s_named, s_references, s_final_at, s_known_final_at, s_by_hand
    FROM (
        -- A window's recipient has the parameters of its calls.
        SELECT r.batch_key, r.recipient_no, comparable_parameters(t.said) AS parameters, t.said,
               r.is_erased, r.is_only_same, b.is_registered, b.ref_column,
               CASE WHEN NOT r.is_erased AND b.ref_column IS NOT NULL
                    THEN comparable_parameters(r.parameters) || jsonb_build_object(b.ref_column, n.reference) END AS named,
               n.reference,
               p.span, p.exact, f.final_at, f.known_final_at, h.by_hand,
               b.ref_column IS NOT NULL
               AND EXISTS (SELECT FROM reference_batches AS k WHERE k.batch_key = b.batch_key) AS has_references
        FROM (
            SELECT k.batch_key, k.recipient_no, k.parameters, false AS is_erased, false AS is_only_same
            FROM recipients AS k WHERE k.phone = p_phone AND k.withdrawn_at IS NULL
            UNION ALL
            SELECT e.batch_key, e.recipient_no, '{}', true, false
            FROM erased_recipients AS e
            JOIN recipients AS k ON k.batch_key = e.batch_key AND k.recipient_no = e.recipient_no
            WHERE e.phone_hash = v_hash AND k.withdrawn_at IS NULL
            UNION ALL
            SELECT DISTINCT x.batch_key, x.recipient_no, k.parameters, false, true
            FROM reference_contradictions AS x
            JOIN recipients AS k ON k.batch_key = x.batch_key AND k.recipient_no = x.recipient_no
            WHERE x.agent_id = p_agent_id AND x.phone = p_phone
            UNION ALL
            SELECT DISTINCT a.batch_key, a.recipient_no, k.parameters, false, true
            FROM assignments AS a
            JOIN recipients AS k ON k.batch_key = a.batch_key AND k.recipient_no = a.recipient_no
            WHERE a.arrival_id = ANY (v_assigned) AND k.phone <> p_phone
        ) AS r
        JOIN batches AS b ON b.batch_key = r.batch_key
        CROSS JOIN LATERAL batch_span(b) AS p
        CROSS JOIN LATERAL (SELECT b.ref_token || '-' || r.recipient_no AS reference) AS n
        CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_agg(DISTINCT k.conversation_id), '[]') AS by_hand FROM facts AS k
            WHERE k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no AND k.method = 'manual'
        ) AS h
        CROSS JOIN LATERAL (
            SELECT count(*) AS facts, count(*) FILTER (WHERE e.arrival_id IS NULL) AS unproven,
                   (array_agg(e.parameters ORDER BY e.parameters::text)
                    FILTER (WHERE comparable_parameters(e.parameters) <> '{}'))[1] AS parameters,
                   min(coalesce(f.started_at, f.ended_at, f.occurred_at, '-infinity'))
                       FILTER (WHERE f.is_final AND ends_recipient(f.source, f.status, f.attempt_number)
                               AND (f.method = 'reference' OR NOT h.by_hand ? f.conversation_id)) AS final_at,
                   min(coalesce(f.started_at, f.ended_at, f.occurred_at))
                       FILTER (WHERE f.is_final AND ends_recipient(f.source, f.status, f.attempt_number)
                               AND (f.method = 'reference' OR NOT h.by_hand ? f.conversation_id)) AS known_final_at
            FROM facts AS f
            LEFT JOIN unreferenced_events AS e ON e.arrival_id = f.arrival_id
            WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no AND f.arrival_id <> ALL (v_events)
              AND (v_until = 'infinity' OR NOT EXISTS (
                  SELECT FROM unreferenced_events AS u WHERE u.arrival_id = f.arrival_id AND u.called_at > v_until))
        ) AS f
        CROSS JOIN LATERAL (
            SELECT CASE WHEN b.is_registered OR f.unproven > 0 THEN r.parameters
                        ELSE coalesce(f.parameters, '{}') END AS said
        ) AS t
        WHERE b.agent_id = p_agent_id AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
          AND (b.is_registered OR f.facts > 0 OR r.is_erased)
          AND (v_is_untimed OR p.span && tstzrange(v_first, v_last, '[]')
               OR n.reference IN (SELECT u.parameters ->> b.ref_column FROM unreferenced_events AS u
                                  WHERE u.arrival_id = ANY (v_events))
               OR EXISTS (SELECT FROM facts AS k
                          WHERE k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no
                            AND k.conversation_id = ANY (CASE WHEN r.is_erased THEN v_hashes ELSE v_conversations END)))
        ORDER BY r.batch_key, r.recipient_no
    ) AS c;

    SELECT array_agg(b.batch_key), array_agg(p.span), array_agg(p.exact), array_agg(coalesce(g.is_busy, false)),
           array_agg(coalesce(b.total_recipients, 2147483647)::bigint - b.recipient_count + b.withdrawn_count + h.held)
    INTO w_batches, w_spans, w_exacts, w_busy, w_room
    FROM batches AS b
    CROSS JOIN LATERAL batch_span(b) AS p
    LEFT JOIN LATERAL (
        SELECT k.step IN ('match', 'withdraw') AS is_busy FROM registrations AS k WHERE k.batch_key = b.batch_key OFFSET 0
    ) AS g ON true
    -- Recipients that only these events have created are created again, or removed.
    CROSS JOIN LATERAL (
        SELECT count(*) AS held FROM recipients AS k
        WHERE k.phone = p_phone AND k.batch_key = b.batch_key AND k.withdrawn_at IS NULL
          AND NOT EXISTS (SELECT FROM unnest(s_batches, s_nos) AS s (b, n)
                          WHERE s.b = k.batch_key AND s.n = k.recipient_no)
    ) AS h
    WHERE b.agent_id = p_agent_id AND NOT b.is_registered
      AND coalesce(b.closed_at, 'infinity'::timestamptz) >= v_first - interval '5 minutes'
      AND p.span && tstzrange(v_first, v_last, '[]');
    SELECT w_batches || coalesce(array_agg(-h.upload_key), '{}'),
           w_spans || coalesce(array_agg(tstzrange(h.since - interval '5 minutes', NULL)), '{}'),
           w_exacts || coalesce(array_agg(tstzrange(h.since, NULL)), '{}'), w_busy || coalesce(array_agg(false), '{}'),
           w_room || coalesce(array_agg(coalesce(h.total_recipients, 2147483647)::bigint), '{}')
    INTO w_batches, w_spans, w_exacts, w_busy, w_room
    FROM withheld_batches AS h
    JOIN batches AS u ON u.batch_key = h.upload_key AND u.upload_state = 'unknown'
    WHERE h.agent_id = p_agent_id AND h.since <= v_last + interval '5 minutes';

    SELECT array_agg(t.arrival_id), array_agg(t.slot), array_agg(t.conversation_id), array_agg(t.started_at),
           array_agg(t.called_at), array_agg(t.until), array_agg(t.attempt_number), array_agg(t.parameters)
    INTO t_arrivals, t_slots, t_conversations, t_started, t_called, t_until, t_attempts, t_parameters
    FROM (
        SELECT u.arrival_id, NULL::integer AS slot, u.conversation_id, u.started_at, u.called_at, u.until, u.attempt_number,
               nullif(comparable_parameters(u.parameters), '{}') AS parameters
        FROM unreferenced_events AS u
        WHERE u.arrival_id = ANY (v_events) AND u.arrival_id <> ALL (v_others || v_disputed)
        UNION ALL
        SELECT f.arrival_id, s.n, c.conversation_id, f.started_at, coalesce(f.started_at, f.ended_at, f.occurred_at),
               greatest(f.started_at, f.ended_at, f.occurred_at), f.attempt_number,
               CASE WHEN f.method = 'reference' THEN s.named
                    ELSE nullif(comparable_parameters(k.parameters), '{}') END
        FROM unnest(s_batches, s_nos, s_erased, s_named) WITH ORDINALITY AS s (batch, no, is_erased, named, n)
        JOIN facts AS f ON f.batch_key = s.batch AND f.recipient_no = s.no AND f.arrival_id <> ALL (v_events)
        JOIN unnest(v_conversations, v_hashes) AS c (conversation_id, hash)
            ON f.conversation_id = CASE WHEN s.is_erased THEN c.hash ELSE c.conversation_id END
        LEFT JOIN unreferenced_events AS k ON k.arrival_id = f.arrival_id
        ORDER BY 1
    ) AS t;
    -- Only the whole conversation shows to which call an event without a time belongs.
    IF array_position(t_called, NULL) IS NOT NULL AND (p_from IS NOT NULL OR p_until IS NOT NULL) THEN
        RETURN QUERY SELECT p.* FROM find_places(p_agent_id, p_phone, NULL, NULL) AS p WHERE p.arrival_id <> ALL (v_assigned);
        RETURN;
    END IF;

    FOR v_call IN
        SELECT t.conversation_id, min(t.called_at) AS called_at, min(u.scanned_at) AS received_at,  -- used if it has no time
               least(min(u.called_at) FILTER (WHERE u.is_final),
                     CASE WHEN bool_or(u.is_final AND u.called_at IS NULL) THEN min(t.called_at) END) AS final_at,
               bool_or(u.is_final) AS is_final,
               array_agg(u.arrival_id) FILTER (WHERE t.slot IS NULL) AS arrivals,
               array_agg(DISTINCT t.slot) FILTER (WHERE t.slot IS NOT NULL AND t.called_at IS NOT NULL) AS slots,
               array_agg(DISTINCT t.slot) FILTER (WHERE t.slot IS NOT NULL AND t.called_at IS NULL) AS untimed_slots,
               (array_agg(t.parameters ORDER BY u.parameters::text)
                FILTER (WHERE t.slot IS NULL AND t.parameters IS NOT NULL))[1] AS parameters,
               (array_agg(u.parameters ORDER BY u.parameters::text) FILTER (WHERE t.parameters IS NOT NULL))[1] AS said,
               min(u.attempt_number) AS attempt_number
        FROM unnest(group_calls(t_conversations, t_started, t_called, t_until, t_attempts, t_parameters), t_slots,
                    t_arrivals, t_conversations, t_called, t_parameters)
            AS t (call, slot, arrival_id, conversation_id, called_at, parameters)
        LEFT JOIN unreferenced_events AS u ON u.arrival_id = t.arrival_id AND t.slot IS NULL
        GROUP BY t.call, t.conversation_id
        HAVING count(u.arrival_id) > 0
        -- By content, and only then by arrival: within a conversation, calls that end nothing come first.
        ORDER BY min(t.called_at) NULLS LAST, t.conversation_id COLLATE "C", bool_or(u.is_final),
                 min(u.attempt_number) NULLS LAST, min(u.parameters::text COLLATE "C") NULLS LAST, min(u.arrival_id)
    LOOP
        v_is_busy := false;
        v_found := NULL;
        -- The call is known already: by reference, or as placed earlier. If only an event without a time shows that, it may
        -- be another call: when the time does not fit the batch, or when the conversation has other calls and the recipient
        -- was final before this one.
        SELECT coalesce(v_call.slots, array_agg(o.n) FILTER (WHERE
                   coalesce(v_call.called_at <@ s_spans[o.n], true)
                   AND (coalesce(v_call.called_at <= s_known_final_at[o.n] + v_slack, true)
                        OR NOT EXISTS (SELECT FROM unnest(t_arrivals, t_conversations, t_called) AS t (arrival_id, c, called_at)
                                       WHERE t.c = v_call.conversation_id AND t.called_at IS NOT NULL
                                         AND t.arrival_id <> ALL (v_call.arrivals)))))
        INTO v_slots
        FROM unnest(v_call.untimed_slots) AS o (n);
        IF v_slots IS NULL THEN
            SELECT array_agg(s.n) INTO v_references
            FROM unnest(s_references, s_ref_columns) WITH ORDINALITY AS s (reference, ref_column, n)
            WHERE v_call.parameters ->> s.ref_column = s.reference;
            -- Due recipients that are known.
            SELECT array_agg(s.n ORDER BY s.n),
                   array_agg(s.n) FILTER (WHERE s.n = ANY (v_references)
                                          OR s.parameters = v_call.parameters - coalesce(s.ref_column, ''))
            INTO v_slots, v_equals
            FROM unnest(s_batches, s_nos, s_parameters, s_windows, s_erased, s_only_same, s_spans, s_bearing, s_ref_columns,
                        s_final_at) WITH ORDINALITY
                AS s (batch, no, parameters, is_window, is_erased, is_only_same, span, has_references, ref_column, final_at, n)
            WHERE NOT s.is_only_same AND (NOT s.is_window OR s.is_erased)
              AND (coalesce(v_call.called_at <@ s.span, lower(s.span) <= v_call.received_at) OR s.n = ANY (v_references))
              AND CASE WHEN v_call.called_at IS NULL THEN s.final_at IS NULL
                       ELSE coalesce(s.final_at + v_slack >= v_call.called_at, true) END
              AND (v_references IS NULL OR s.n = ANY (v_references) OR s.parameters = v_call.parameters)
              AND (v_call.parameters IS NULL OR s.n = ANY (v_references)
                   OR NOT s.has_references AND v_call.parameters || s.parameters = v_call.parameters)
              AND NOT CASE WHEN s.has_references AND s.n = ANY (v_references) IS NOT TRUE
                           THEN is_refuted(s.batch, s.no, v_call.called_at, v_call.is_final, v_call.attempt_number)
                           ELSE false END;
            v_slots := coalesce(v_slots, '{}');
            v_equals := coalesce(v_equals, '{}');
            -- Open windows.
            FOR v_row IN
                SELECT w.* FROM unnest(w_batches, w_spans, w_busy, w_room) WITH ORDINALITY
                    AS w (batch, span, is_busy, room, n)
                WHERE v_call.called_at <@ w.span AND v_references IS NULL
            LOOP
                v_is_busy := v_is_busy OR v_row.is_busy;
                -- Its recipients with this phone; an erased one was handled above.
                SELECT array_agg(s.n ORDER BY s.n) INTO v_own
                FROM unnest(s_batches, s_erased, s_only_same) WITH ORDINALITY AS s (b, erased, is_only_same, n)
                WHERE s.b = v_row.batch AND NOT s.erased AND NOT s.is_only_same;
                v_own := coalesce(v_own, '{}');
                IF v_call.parameters IS NOT NULL THEN
                    SELECT s.n INTO v_found
                    FROM unnest(s_batches, s_parameters, s_erased, s_only_same) WITH ORDINALITY
                        AS s (b, parameters, erased, is_only_same, n)
                    WHERE s.n = ANY (v_own) AND (s.parameters = v_call.parameters OR s.parameters = '{}')
                    ORDER BY s.parameters = v_call.parameters DESC, s.n
                    LIMIT 1;
                    v_own := CASE WHEN v_found IS NULL THEN '{}' ELSE ARRAY[v_found] END;
                END IF;
                IF cardinality(v_own) = 0 THEN
                    CONTINUE WHEN v_row.batch < 0 AND EXISTS (  -- it may be the upload whose recipient is due
                        SELECT FROM unnest(v_slots) AS o (n) WHERE o.n > 0 AND s_batches[o.n] = -v_row.batch);
                    -- Text that is not a number creates no recipient. Nor does a call recreate a person who was erased
                    -- after it, or to whose erased recipient it may belong.
                    IF v_row.room > 0 AND p_phone ~ '^[+][1-9][0-9]{6,14}$'
                       AND coalesce(v_call.called_at > v_erased_at, true)
                       AND NOT EXISTS (
                           SELECT FROM unnest(s_batches, s_erased) WITH ORDINALITY AS s (b, erased, n)
                           WHERE s.b = v_row.batch AND s.erased AND s.n = ANY (v_slots)) THEN
                        v_slots := v_slots || -v_row.n::integer;
                    END IF;
                    CONTINUE;
                END IF;
                SELECT v_slots || coalesce(array_agg(o.n), '{}'),
                       v_equals || coalesce(array_agg(o.n) FILTER (WHERE s_parameters[o.n] = v_call.parameters), '{}')
                INTO v_slots, v_equals
                FROM unnest(v_own) AS o (n)
                WHERE coalesce(s_final_at[o.n] + v_slack >= v_call.called_at, true);
            END LOOP;
            IF cardinality(v_slots) > 1 THEN
                SELECT array_agg(o.n) INTO v_named
                FROM unnest(v_slots) AS o (n)
                WHERE EXISTS (SELECT FROM unnest(v_held, v_held_conversations) AS h (n, conversation_id)
                              WHERE h.n = o.n AND h.conversation_id = v_call.conversation_id)
                   OR EXISTS (SELECT FROM facts AS f
                              WHERE f.batch_key = s_batches[o.n] AND f.recipient_no = s_nos[o.n]
                                AND f.arrival_id <> ALL (v_events) AND f.conversation_id = CASE
                                    WHEN s_erased[o.n] THEN hash_call(v_call.conversation_id)
                                    ELSE v_call.conversation_id END
                                AND (v_until = 'infinity' OR NOT EXISTS (  -- as above
                                    SELECT FROM unreferenced_events AS u
                                    WHERE u.arrival_id = f.arrival_id AND u.called_at > v_until)));
                v_slots := coalesce(v_named, v_slots);
                v_equals := ARRAY(SELECT n FROM unnest(v_slots) AS n WHERE n = ANY (v_equals));
                v_slots := CASE WHEN v_equals <> '{}' THEN v_equals ELSE v_slots END;
                SELECT array_agg(o.n) INTO v_exact
                FROM unnest(v_slots) AS o (n)
                WHERE v_call.called_at <@ CASE WHEN o.n > 0 THEN s_exacts[o.n] ELSE w_exacts[-o.n] END;
                v_slots := coalesce(v_exact, v_slots);
            END IF;
        END IF;
        v_reason := CASE
            WHEN cardinality(v_slots) = 0 THEN 'no_batch'
            WHEN cardinality(v_slots) > 1 OR w_batches[-v_slots[1]] < 0 THEN 'ambiguous'
        END;

        v_found := NULL;
        IF v_is_busy AND (v_reason IS NOT NULL OR v_slots[1] < 0 OR s_windows[v_slots[1]]) THEN
            v_found := -1;  -- it stays where it is until the CSV is registered
        ELSIF v_slots[1] < 0 AND v_reason IS NULL THEN
            v_free := v_free - 1;
            s_batches := s_batches || w_batches[-v_slots[1]];
            s_nos := s_nos || v_free;
            s_parameters := s_parameters || coalesce(v_call.parameters, '{}');
            s_said := s_said || coalesce(v_call.said, '{}');
            s_windows := s_windows || true;
            s_erased := s_erased || false;
            s_only_same := s_only_same || false;
            s_ref_columns := s_ref_columns || NULL::text;
            s_named := s_named || NULL::jsonb;
            s_references := s_references || NULL::text;
            s_spans := s_spans || w_spans[-v_slots[1]];
            s_exacts := s_exacts || w_exacts[-v_slots[1]];
            s_bearing := s_bearing || false;
            s_final_at := s_final_at || NULL::timestamptz;
            s_known_final_at := s_known_final_at || NULL::timestamptz;
            s_by_hand := s_by_hand || '[]'::jsonb;
            v_found := cardinality(s_batches);
            w_room[-v_slots[1]] := w_room[-v_slots[1]] - 1;
        ELSIF v_reason IS NULL THEN
            v_found := v_slots[1];
            IF s_windows[v_found] AND s_parameters[v_found] = '{}' AND NOT s_erased[v_found] THEN
                s_parameters[v_found] := coalesce(v_call.parameters, '{}');
                s_said[v_found] := coalesce(v_call.said, '{}');
            END IF;
        END IF;
        IF v_found > 0 THEN
            v_held := v_held || v_found;
            v_held_conversations := v_held_conversations || v_call.conversation_id;
        END IF;
        IF v_found > 0 AND v_call.is_final
           AND NOT s_by_hand[v_found] ? (CASE WHEN s_erased[v_found] THEN hash_call(v_call.conversation_id)
                                              ELSE v_call.conversation_id END) THEN
            s_final_at[v_found] := least(s_final_at[v_found], coalesce(v_call.final_at, '-infinity'));
            s_known_final_at[v_found] := least(s_known_final_at[v_found], v_call.final_at);
        END IF;
        v_arrivals := v_arrivals || v_call.arrivals;
        v_places := v_places || array_fill(v_found, ARRAY[cardinality(v_call.arrivals)]);
        v_reasons := v_reasons || array_fill(v_reason, ARRAY[cardinality(v_call.arrivals)]);
        v_erased := v_erased || array_fill(
            v_slots <> '{}' AND NOT EXISTS (SELECT FROM unnest(v_slots) AS o (n) WHERE s_erased[o.n] IS NOT TRUE),
            ARRAY[cardinality(v_call.arrivals)]);
    END LOOP;

    -- A new recipient may exist already, created by these very events before. Its identity never changes: if its calls
    -- turn out to belong to someone else, they create another one (see withdraw_empty()). If its calls so far have no
    -- parameters, it may have those of a call after p_until, the first of which is its own.
    FOR n IN 1 .. coalesce(cardinality(s_nos), 0) LOOP
        CONTINUE WHEN s_nos[n] > 0;
        SELECT k.recipient_no INTO v_known_no
        FROM recipients AS k
        CROSS JOIN LATERAL (SELECT comparable_parameters(k.parameters) AS parameters) AS p
        CROSS JOIN LATERAL (
            SELECT min(u.called_at) AS called_at
            FROM facts AS f
            CROSS JOIN LATERAL (SELECT called_at FROM unreferenced_events AS e
                                WHERE e.arrival_id = f.arrival_id OFFSET 0) AS u
            WHERE f.batch_key = k.batch_key AND f.recipient_no = k.recipient_no
              AND s_parameters[n] = '{}' AND u.called_at > v_until
        ) AS later
        WHERE k.phone = p_phone AND k.batch_key = s_batches[n] AND k.withdrawn_at IS NULL
          AND (p.parameters IN (s_parameters[n], '{}') OR later.called_at IS NOT NULL)
          AND NOT EXISTS (SELECT FROM unnest(s_batches, s_nos) AS s (b, no)
                          WHERE s.b = k.batch_key AND s.no = k.recipient_no)
        ORDER BY p.parameters = s_parameters[n] DESC, later.called_at, k.recipient_no
        LIMIT 1;
        s_nos[n] := coalesce(v_known_no, s_nos[n]);
    END LOOP;

    RETURN QUERY
    SELECT a.arrival_id, f.batch_key, f.recipient_no, NULL::bigint, NULL::integer, NULL::jsonb, NULL::text,
           CASE WHEN a.arrival_id = ANY (v_disputed) THEN 'no_batch' ELSE 'other_call' END, false
    FROM unnest(v_others || v_disputed) AS a (arrival_id)
    LEFT JOIN LATERAL (SELECT * FROM facts AS k WHERE k.arrival_id = a.arrival_id OFFSET 0) AS f ON true;
    RETURN QUERY
    SELECT a.arrival_id, f.batch_key, f.recipient_no,
           CASE WHEN a.place = -1 THEN f.batch_key ELSE s_batches[a.place] END,
           CASE WHEN a.place = -1 THEN f.recipient_no ELSE s_nos[a.place] END,
           CASE WHEN a.place > 0 AND s_windows[a.place] THEN s_said[a.place] END,
           CASE WHEN a.place = -1 THEN f.method WHEN s_windows[a.place] THEN 'window' ELSE 'recipient' END,
           CASE WHEN a.place = -1 AND f.batch_key IS NULL THEN coalesce(a.reason, 'no_batch')
                WHEN a.place IS NULL THEN a.reason END,
           a.is_erased AND a.place IS DISTINCT FROM -1
    FROM unnest(v_arrivals, v_places, v_reasons, v_erased) AS a (arrival_id, place, reason, is_erased)
    LEFT JOIN LATERAL (
        SELECT k.batch_key, k.recipient_no, k.method FROM facts AS k WHERE k.arrival_id = a.arrival_id OFFSET 0
    ) AS f ON true;
END
$$;
