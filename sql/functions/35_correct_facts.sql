-- Corrects the times, numbers and finality of stored facts that this version decodes differently from the one that stored
-- them; element n of every array is for the fact of arrival n. Counters change by deltas, and a recipient whose shown
-- outcome changes gets a new feed position. Takes the ingest lock, so pass few at a time. Facts that are already as given
-- do not change. Returns how many facts changed.
--
-- p_from_phones and p_trace_ids null, from the version before: these fields stay as they are.
DROP FUNCTION IF EXISTS correct_facts(
    bigint[], boolean[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], integer[], integer[], integer[]);
CREATE OR REPLACE FUNCTION correct_facts(
    p_arrival_ids bigint[], p_is_final boolean[], p_next_retry_at timestamptz[], p_occurred_at timestamptz[],
    p_started_at timestamptz[], p_ended_at timestamptz[], p_duration_seconds integer[], p_attempt_numbers integer[],
    p_max_attempts integer[], p_from_phones text[] DEFAULT NULL, p_trace_ids text[] DEFAULT NULL
)
RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_wrong      bigint[];   -- arrival ids of the facts that differ
    v_batches    bigint[];   -- their recipients
    v_recipients integer[];
    v_arrivals   bigint[];   -- all facts of those recipients
    v_before     jsonb;      -- their outcomes
BEGIN
    PERFORM lock_ingest();
    SELECT array_agg(f.arrival_id)
    INTO v_wrong
    FROM unnest(p_arrival_ids, p_is_final, p_next_retry_at, p_occurred_at, p_started_at, p_ended_at, p_duration_seconds,
                p_attempt_numbers, p_max_attempts, p_from_phones, p_trace_ids)
        AS c (arrival_id, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds, attempt_number,
              max_attempts, from_phone, trace_id)
    CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = c.arrival_id OFFSET 0) AS f
    WHERE (f.is_final, f.next_retry_at, f.occurred_at, f.started_at, f.ended_at, f.duration_seconds, f.attempt_number,
           f.max_attempts, f.from_phone, f.trace_id)
          IS DISTINCT FROM
          (c.is_final, c.next_retry_at, c.occurred_at, c.started_at, c.ended_at, c.duration_seconds, c.attempt_number,
           c.max_attempts, CASE WHEN p_from_phones IS NULL THEN f.from_phone ELSE c.from_phone END,
           CASE WHEN p_trace_ids IS NULL THEN f.trace_id ELSE c.trace_id END);
    IF v_wrong IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(t.batch_key), array_agg(t.recipient_no)
    INTO v_batches, v_recipients
    FROM (
        SELECT DISTINCT f.batch_key, f.recipient_no
        FROM unnest(v_wrong) AS w (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = w.arrival_id OFFSET 0) AS f
    ) AS t;
    SELECT array_agg(f.arrival_id)
    INTO v_arrivals
    FROM unnest(v_batches, v_recipients) AS t (batch_key, recipient_no)
    CROSS JOIN LATERAL (SELECT arrival_id FROM facts WHERE facts.batch_key = t.batch_key
                        AND facts.recipient_no = t.recipient_no OFFSET 0) AS f;

    PERFORM apply_facts(v_batches, v_recipients, NULL);
    v_before := take_outcomes(v_batches, v_recipients);
    UPDATE facts AS f
    SET is_final = c.is_final, next_retry_at = c.next_retry_at, occurred_at = c.occurred_at, started_at = c.started_at,
        ended_at = c.ended_at, duration_seconds = c.duration_seconds, attempt_number = c.attempt_number,
        max_attempts = c.max_attempts,
        -- Its caller may have been erased since the body was read.
        from_phone = CASE WHEN p_from_phones IS NULL OR is_erased_caller(c.from_phone) THEN f.from_phone ELSE c.from_phone END,
        -- Its person may have been erased since the body was read.
        trace_id = CASE WHEN p_trace_ids IS NULL
                             OR EXISTS (SELECT FROM erased_recipients AS k
                                        WHERE k.batch_key = f.batch_key AND k.recipient_no = f.recipient_no)
                        THEN f.trace_id ELSE c.trace_id END
    FROM unnest(p_arrival_ids, p_is_final, p_next_retry_at, p_occurred_at, p_started_at, p_ended_at, p_duration_seconds,
                p_attempt_numbers, p_max_attempts, p_from_phones, p_trace_ids)
        AS c (arrival_id, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds, attempt_number,
              max_attempts, from_phone, trace_id)
    WHERE f.arrival_id = c.arrival_id AND c.arrival_id = ANY (v_wrong);
    PERFORM apply_facts(v_batches, v_recipients, v_arrivals);

    PERFORM restore_outcomes(v_before);
    UPDATE batch_activity AS a SET revision = a.revision + 1 WHERE a.batch_key = ANY (v_batches);
    RETURN cardinality(v_wrong);
END
$$;

-- The part of an outcome that readers see from the fact that decided it, as stored.
CREATE OR REPLACE FUNCTION shown_outcome(p_batch_key bigint, p_recipient_no integer, p_arrival_id bigint) RETURNS text
LANGUAGE sql STABLE
AS $$
SELECT ROW (f.is_final, f.status, f.duration_seconds, f.results, f.failure_reason, f.next_retry_at,
            coalesce(f.started_at, f.ended_at, f.occurred_at), f.conversation_id, f.source)::text
FROM facts AS f
WHERE f.batch_key = p_batch_key AND f.recipient_no = p_recipient_no AND f.arrival_id = p_arrival_id
$$;

-- Takes the outcomes of recipients, whose facts are about to change, and returns them for restore_outcomes().
CREATE OR REPLACE FUNCTION take_outcomes(p_batch_keys bigint[], p_recipient_nos integer[]) RETURNS jsonb
LANGUAGE sql
AS $$
WITH gone AS (
    DELETE FROM outcomes AS o
    USING unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no AND o.state <> 'withdrawn'
    RETURNING o.*
)
SELECT jsonb_agg(to_jsonb(g) || jsonb_build_object('shown', shown_outcome(g.batch_key, g.recipient_no, g.arrival_id)))
FROM gone AS g
$$;

-- After apply_facts() has made the outcomes again: what readers of the feed know of those that take_outcomes() returned.
CREATE OR REPLACE FUNCTION restore_outcomes(p_before jsonb) RETURNS void
LANGUAGE sql
AS $$
-- The rows are new: readers of the feed see them again only if the shown outcome changed.
UPDATE outcomes AS o
SET state = CASE WHEN b.state = 'erased' THEN b.state ELSE o.state END,
    position = CASE WHEN n.is_same THEN b.position ELSE o.position END,
    version = b.version + (NOT n.is_same)::integer,
    changed_at = CASE WHEN n.is_same THEN b.changed_at ELSE o.changed_at END
FROM jsonb_to_recordset(p_before) AS b (
    batch_key bigint, recipient_no integer, state text, attempts integer, position bigint, version integer,
    changed_at timestamptz, shown text)
CROSS JOIN LATERAL (SELECT * FROM outcomes AS k
                    WHERE k.batch_key = b.batch_key AND k.recipient_no = b.recipient_no OFFSET 0) AS k
CROSS JOIN LATERAL (
    SELECT k.attempts = b.attempts
           AND shown_outcome(k.batch_key, k.recipient_no, k.arrival_id) IS NOT DISTINCT FROM b.shown AS is_same
) AS n
WHERE o.batch_key = b.batch_key AND o.recipient_no = b.recipient_no;
$$;

-- Removes implausible times and numbers from rows that no counter depends on: batches, their history, and withdrawn facts;
-- so many rows of each. Returns how many rows changed: call it until that is 0.
CREATE OR REPLACE FUNCTION correct_stored_times(p_limit integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_batches bigint[];
    v_changed integer;
    v_sum     integer := 0;
BEGIN
    v_batches := ARRAY(SELECT b.batch_key FROM batches AS b
                       WHERE b.created_at IS DISTINCT FROM plausible_time(b.created_at) LIMIT p_limit);
    IF v_batches <> '{}' THEN
        PERFORM lock_ingest();  -- like every change of several batches at once
        UPDATE batches AS b SET created_at = NULL
        WHERE b.batch_key = ANY (v_batches) AND b.created_at IS DISTINCT FROM plausible_time(b.created_at);
        GET DIAGNOSTICS v_sum = ROW_COUNT;
    END IF;
    UPDATE batch_versions AS v SET created_at = NULL
    FROM (SELECT w.batch_key, w.changed_at FROM batch_versions AS w
          WHERE w.created_at IS DISTINCT FROM plausible_time(w.created_at) LIMIT p_limit) AS t
    WHERE v.batch_key = t.batch_key AND v.changed_at = t.changed_at;
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    v_sum := v_sum + v_changed;
    UPDATE past_facts AS f
    SET next_retry_at = plausible_time(f.next_retry_at), occurred_at = plausible_time(f.occurred_at),
        started_at = plausible_time(f.started_at), ended_at = plausible_time(f.ended_at),
        duration_seconds = CASE WHEN is_plausible_fact(NULL, NULL, NULL, NULL, f.duration_seconds, NULL, NULL) THEN f.duration_seconds END,
        attempt_number = CASE WHEN is_plausible_fact(NULL, NULL, NULL, NULL, NULL, f.attempt_number, NULL) THEN f.attempt_number END,
        max_attempts = CASE WHEN is_plausible_fact(NULL, NULL, NULL, NULL, NULL, NULL, f.max_attempts) THEN f.max_attempts END
    FROM (SELECT p.batch_key, p.recipient_no, p.arrival_id, p.withdrawn_at FROM past_facts AS p
          WHERE NOT is_plausible_fact(p.next_retry_at, p.occurred_at, p.started_at, p.ended_at, p.duration_seconds,
                                      p.attempt_number, p.max_attempts) LIMIT p_limit) AS t
    WHERE (f.batch_key, f.recipient_no, f.arrival_id, f.withdrawn_at)
        = (t.batch_key, t.recipient_no, t.arrival_id, t.withdrawn_at);
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    RETURN v_sum + v_changed;
END
$$;
