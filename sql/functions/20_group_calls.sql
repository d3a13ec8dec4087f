-- Whether two events of one conversation, each with a time, belong to one call: they begin within two seconds of each
-- other; or, if one has no start time, their times overlap (p_called_at to p_until) and neither attempt numbers nor
-- parameters differ. Calls of one conversation never overlap.
CREATE OR REPLACE FUNCTION is_same_call(
    p_started_at timestamptz, p_called_at timestamptz, p_until timestamptz, p_attempt_number integer, p_parameters jsonb,
    p_other_started_at timestamptz, p_other_called_at timestamptz, p_other_until timestamptz,
    p_other_attempt_number integer, p_other_parameters jsonb
) RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT CASE
    WHEN p_started_at IS NOT NULL AND p_other_started_at IS NOT NULL
        THEN p_started_at BETWEEN p_other_started_at - interval '2 s' AND p_other_started_at + interval '2 s'
    ELSE p_called_at <= p_other_until + interval '2 s' AND p_other_called_at <= p_until + interval '2 s'
         AND coalesce(p_attempt_number = p_other_attempt_number, true)
         AND coalesce(p_parameters = p_other_parameters, true)
END
$$;

-- The earliest start of the call of an event: a call without a start time is taken to last at most four hours.
CREATE OR REPLACE FUNCTION earliest_call(p_started_at timestamptz, p_called_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
SELECT coalesce(p_started_at, p_called_at - interval '4 hours')
$$;

-- Groups events by call: returns for each event the place in the arrays of the event that represents its call. An event
-- without any time belongs to the one call of its conversation that it does not contradict; if there are several or none,
-- it is a call of its own.
CREATE OR REPLACE FUNCTION group_calls(
    p_conversation_ids text[], p_started_at timestamptz[], p_called_at timestamptz[], p_until timestamptz[],
    p_attempt_numbers integer[], p_parameters jsonb[]
) RETURNS integer[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_calls integer[] := ARRAY(SELECT generate_subscripts(p_conversation_ids, 1));
    v_order integer[];  -- the events that share a conversation, those with most information about their call first
    v_same  integer[];
    v_n     integer;
BEGIN
    IF cardinality(p_conversation_ids) = 1 THEN
        RETURN v_calls;
    END IF;
    SELECT array_agg(e.n ORDER BY e.called_at IS NULL, e.started_at IS NULL, e.called_at, e.n) INTO v_order
    FROM (
        SELECT t.*, count(*) OVER (PARTITION BY t.conversation_id) AS events
        FROM unnest(p_conversation_ids, p_called_at, p_started_at) WITH ORDINALITY
            AS t (conversation_id, called_at, started_at, n)
    ) AS e
    WHERE e.events > 1;
    FOR i IN 2 .. coalesce(cardinality(v_order), 0) LOOP
        v_n := v_order[i];
        IF p_called_at[v_n] IS NOT NULL THEN
            SELECT array_agg(v_calls[o.n]) INTO v_same
            FROM unnest(v_order[:i - 1]) AS o (n)
            WHERE p_conversation_ids[o.n] = p_conversation_ids[v_n]
              AND is_same_call(
                  p_started_at[v_n], p_called_at[v_n], p_until[v_n], p_attempt_numbers[v_n], p_parameters[v_n],
                  p_started_at[o.n], p_called_at[o.n], p_until[o.n], p_attempt_numbers[o.n], p_parameters[o.n]);
            v_calls := ARRAY(SELECT CASE WHEN c = ANY (v_same) THEN v_n ELSE c END
                             FROM unnest(v_calls) WITH ORDINALITY AS t (c, nth) ORDER BY nth);
        ELSE
            SELECT array_agg(c.call) INTO v_same
            FROM (
                SELECT v_calls[o.n] AS call
                FROM unnest(v_order[:i - 1]) AS o (n)
                WHERE p_conversation_ids[o.n] = p_conversation_ids[v_n]
                GROUP BY 1
                HAVING bool_and(coalesce(p_attempt_numbers[o.n] = p_attempt_numbers[v_n], true)
                                AND coalesce(p_parameters[o.n] = p_parameters[v_n], true))
            ) AS c;
            IF cardinality(v_same) = 1 THEN
                v_calls[v_n] := v_same[1];
            END IF;
        END IF;
    END LOOP;
    RETURN v_calls;
END
$$;
