-- Moves unreferenced events to where find_places() puts them: those of each given agent and phone whose calls began from a
-- time on, until p_until (null: without end). Under the ingest lock. Returns the events that got a recipient.
CREATE OR REPLACE FUNCTION place_events(
    p_agent_ids bigint[], p_phones text[], p_from timestamptz[], p_until timestamptz DEFAULT NULL
)
RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_agents   bigint[];
    v_phones   text[];
    v_from     timestamptz[];
    v_done     integer := 0;
    v_arrivals bigint[];
BEGIN
    SELECT array_agg(k.agent_id ORDER BY k.agent_id, k.phone), array_agg(k.phone ORDER BY k.agent_id, k.phone),
           array_agg(k.called_at ORDER BY k.agent_id, k.phone)
    INTO v_agents, v_phones, v_from
    FROM (
        SELECT e.agent_id, e.phone, min(coalesce(e.called_at, '-infinity')) AS called_at
        FROM unnest(p_agent_ids, p_phones, p_from) AS e (agent_id, phone, called_at)
        WHERE e.agent_id IS NOT NULL AND e.phone IS NOT NULL
        GROUP BY 1, 2
    ) AS k;
    WHILE v_done < cardinality(v_phones) LOOP
        SELECT v_arrivals || p.arrivals, v_done + p.phones
        INTO v_arrivals, v_done
        FROM place_phones(v_agents[v_done + 1 :], v_phones[v_done + 1 :], v_from[v_done + 1 :], p_until) AS p;
    END LOOP;
    RETURN v_arrivals;
END
$$;

-- Does so for the phones in turn, each given once, and returns how many it has done: all, or up to one whose events leave a
-- window that has more recipients than the provider says. They make room there, which the next phones would not see.
--
-- An event of an erased person is counted for that recipient, and nothing else of it is kept. An event of a call from
-- before the erasure that has no place, or that fits only several such recipients, is only recorded in the ledger. Events of
-- calls outside batches move to other_events.
CREATE OR REPLACE FUNCTION place_phones(
    p_agent_ids bigint[], p_phones text[], p_from timestamptz[], p_until timestamptz,
    OUT arrivals bigint[], OUT phones integer
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now        CONSTANT timestamptz := clock_timestamp();
    v_key        record;
    v_row        record;
    v_made       jsonb;      -- recipients created for this phone, by batch and stand-in number
    v_no         integer;
    v_leaving    bigint[];
    v_waiting    bigint[];
    v_reasons    text[];
    v_arrivals   bigint[];
    v_batches    bigint[];
    v_recipients integer[];
    v_methods    text[];
    v_erased     bigint[];
    v_erased_at  timestamptz;
    v_dropped    bigint[];
    v_others     bigint[];   -- events of calls outside batches
    v_left_batches    bigint[];
    v_left_recipients integer[];
    v_is_full    boolean;
    v_filled     bigint[];   -- windows whose last room was taken
BEGIN
    phones := 0;
    FOR v_key IN SELECT * FROM unnest(p_agent_ids, p_phones, p_from) AS k (agent_id, phone, called_at) LOOP
        phones := phones + 1;
        v_made := '{}';
        IF EXISTS (SELECT FROM erased_phones) THEN
            SELECT max(e.erased_at) INTO v_erased_at
            FROM erased_phones AS e WHERE e.phone_hash = hash_person('phone', v_key.phone);
        END IF;
        FOR v_row IN
            SELECT p.*, u.called_at
            FROM find_places(v_key.agent_id, v_key.phone, v_key.called_at, p_until) AS p
            CROSS JOIN LATERAL (SELECT called_at FROM unreferenced_events AS k
                                WHERE k.arrival_id = p.arrival_id OFFSET 0) AS u
        LOOP
            v_no := v_row.recipient_no;
            IF v_no < 0 THEN
                v_no := v_made ->> (v_row.batch_key || '/' || v_row.recipient_no);
                IF v_no IS NULL THEN
                    UPDATE batches AS b SET recipient_count = b.recipient_count + 1
                    WHERE b.batch_key = v_row.batch_key
                    RETURNING b.recipient_count, b.recipient_count - b.withdrawn_count >= b.total_recipients
                    INTO v_no, v_is_full;
                    IF v_is_full THEN
                        v_filled := v_filled || v_row.batch_key;
                    END IF;
                    INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
                    VALUES (v_row.batch_key, v_no, v_key.phone, v_row.parameters);
                    v_made := v_made || jsonb_build_object(v_row.batch_key || '/' || v_row.recipient_no, v_no);
                END IF;
            ELSIF v_row.parameters IS NOT NULL AND NOT v_made ? (v_row.batch_key || '=' || v_no) THEN
                v_made := v_made || jsonb_build_object(v_row.batch_key || '=' || v_no, v_no);
                PERFORM set_parameters(v_row.batch_key, v_no, v_row.parameters)
                FROM recipients AS r
                WHERE r.batch_key = v_row.batch_key AND r.recipient_no = v_no
                  AND comparable_parameters(r.parameters) = '{}' AND comparable_parameters(v_row.parameters) <> '{}'
                  AND NOT EXISTS (SELECT FROM erased_recipients AS k
                                  WHERE k.batch_key = r.batch_key AND k.recipient_no = r.recipient_no);
            END IF;

            IF v_row.reason = 'other_call' THEN
                v_others := v_others || v_row.arrival_id;
            ELSIF v_row.batch_key IS NULL AND (v_row.is_erased OR v_row.called_at <= v_erased_at) THEN
                v_dropped := v_dropped || v_row.arrival_id;
            ELSIF v_row.batch_key IS NULL AND v_row.at_batch IS NULL THEN
                v_waiting := v_waiting || v_row.arrival_id;
                v_reasons := v_reasons || v_row.reason;
                CONTINUE;
            END IF;
            CONTINUE WHEN v_row.at_batch = v_row.batch_key AND v_row.at_recipient = v_no;
            IF v_row.at_batch IS NOT NULL THEN
                v_leaving := v_leaving || v_row.arrival_id;
                v_left_batches := v_left_batches || v_row.at_batch;
                v_left_recipients := v_left_recipients || v_row.at_recipient;
            END IF;
            IF v_row.batch_key IS NOT NULL THEN
                v_arrivals := v_arrivals || v_row.arrival_id;
                v_batches := v_batches || v_row.batch_key;
                v_recipients := v_recipients || v_no;
                v_methods := v_methods || v_row.method;
                IF v_row.is_erased THEN
                    v_erased := v_erased || v_row.arrival_id;
                END IF;
            ELSIF v_row.reason IS DISTINCT FROM 'other_call' THEN
                v_waiting := v_waiting || v_row.arrival_id;
                v_reasons := v_reasons || v_row.reason;
            END IF;
        END LOOP;
        EXIT WHEN EXISTS (
            SELECT FROM unnest(v_left_batches) AS l (batch_key)
            CROSS JOIN LATERAL (SELECT * FROM batches WHERE batches.batch_key = l.batch_key OFFSET 0) AS b
            WHERE NOT b.is_registered AND b.recipient_count - b.withdrawn_count > b.total_recipients);
    END LOOP;

    IF v_leaving IS NOT NULL THEN
        PERFORM take_facts(v_leaving);
    END IF;
    UPDATE unattributed AS u SET reason = w.reason
    FROM unnest(v_waiting, v_reasons) AS w (arrival_id, reason)
    WHERE u.arrival_id = w.arrival_id AND u.reason <> w.reason;

    IF v_arrivals IS NOT NULL THEN
        WITH taken AS (
            DELETE FROM unattributed AS u
            USING unnest(v_arrivals, v_batches, v_recipients, v_methods) AS p (arrival_id, batch_key, recipient_no, method)
            WHERE u.arrival_id = p.arrival_id
            RETURNING p.batch_key, p.recipient_no, p.method, u.*, coalesce(u.arrival_id = ANY (v_erased), false) AS is_erased
        )
        INSERT INTO facts (
            batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, attempt_number,
            max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at, duration_seconds,
            failure_reason, results, recorded_at, from_phone, trace_id)
        SELECT t.batch_key, t.recipient_no, t.arrival_id, t.event_id, t.source, t.method,
               CASE WHEN t.is_erased THEN hash_call(t.conversation_id) ELSE t.conversation_id END, t.attempt_number,
               t.max_attempts, t.status, t.is_final, t.next_retry_at, t.occurred_at, t.started_at, t.ended_at,
               t.duration_seconds, CASE WHEN NOT t.is_erased THEN t.failure_reason END,
               CASE WHEN t.is_erased THEN 'null' ELSE t.results END, v_now, t.from_phone,
               CASE WHEN NOT t.is_erased THEN t.trace_id END
        FROM taken AS t;
        PERFORM apply_facts(v_batches, v_recipients, v_arrivals);
        UPDATE outstanding_details AS d SET batch_key = p.batch_key
        FROM unnest(v_batches, v_arrivals) AS p (batch_key, arrival_id)
        WHERE d.arrival_id = p.arrival_id;
        INSERT INTO batch_activity AS a (batch_key, last_event_at, last_call_at, last_webhook_at)
        SELECT p.batch_key, least(max(e.received_at), v_now), max(coalesce(f.started_at, f.ended_at, f.occurred_at)),
               max(least(e.received_at, v_now)) FILTER (WHERE f.source = 'webhook')
        FROM unnest(v_batches, v_arrivals) AS p (batch_key, arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = p.arrival_id OFFSET 0) AS f
        CROSS JOIN LATERAL find_arrival(f.event_id, f.occurred_at, f.arrival_id) AS e
        GROUP BY p.batch_key
        ON CONFLICT (batch_key) DO UPDATE
        SET last_event_at = greatest(least(a.last_event_at, v_now), excluded.last_event_at),
            last_call_at = greatest(a.last_call_at, excluded.last_call_at), revision = a.revision + 1,
            last_webhook_at = greatest(CASE WHEN a.last_webhook_at <= v_now THEN a.last_webhook_at END,
                                       excluded.last_webhook_at);
    END IF;
    IF v_arrivals IS NOT NULL OR v_leaving IS NOT NULL THEN
        -- By its call, an event may belong to a recipient with another phone. Events with the recipient's own may then
        -- belong elsewhere.
        PERFORM place_again(p.batch_key, min(earliest_call(u.started_at, u.called_at)))
        FROM unnest(v_arrivals || v_leaving, v_batches || v_left_batches, v_recipients || v_left_recipients)
            AS p (arrival_id, batch_key, recipient_no)
        CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k WHERE k.arrival_id = p.arrival_id OFFSET 0) AS u
        CROSS JOIN LATERAL (SELECT phone FROM recipients AS k
                            WHERE k.batch_key = p.batch_key AND k.recipient_no = p.recipient_no OFFSET 0) AS r
        WHERE r.phone <> u.phone
        GROUP BY p.batch_key;
    END IF;
    IF v_erased IS NOT NULL THEN
        UPDATE outcomes AS o SET state = 'erased'
        FROM (SELECT DISTINCT p.batch_key, p.recipient_no
              FROM unnest(v_arrivals, v_batches, v_recipients) AS p (arrival_id, batch_key, recipient_no)
              WHERE p.arrival_id = ANY (v_erased)) AS t
        WHERE o.batch_key = t.batch_key AND o.recipient_no = t.recipient_no;
    END IF;
    IF v_erased IS NOT NULL OR v_dropped IS NOT NULL THEN
        PERFORM delete_bodies(v_erased || v_dropped);
        DELETE FROM unattributed WHERE arrival_id = ANY (v_dropped);
        DELETE FROM unreferenced_events WHERE arrival_id = ANY (v_erased || v_dropped);
    END IF;
    IF v_others IS NOT NULL THEN
        PERFORM move_other_calls(array_agg(u.arrival_id), array_agg(r.kind), array_agg(r.phone), NULL, false)
        FROM unnest(v_others) AS o (arrival_id)
        CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS k WHERE k.arrival_id = o.arrival_id OFFSET 0) AS u
        CROSS JOIN LATERAL (
            SELECT * FROM find_rulings(u.agent_id, u.conversation_id, u.started_at, u.called_at, u.until, u.attempt_number,
                                       u.parameters)
            ORDER BY kind, phone
            LIMIT 1
        ) AS r;
    END IF;
    IF v_leaving IS NOT NULL THEN
        PERFORM withdraw_empty(v_left_batches, v_left_recipients);
    END IF;
    -- Calls that were ambiguous because of this room may have one candidate now.
    PERFORM place_again(b, NULL) FROM (SELECT DISTINCT unnest(v_filled) AS b) AS filled;
    arrivals := v_arrivals;
END
$$;

-- Requests that the unreferenced events which a change of this batch may affect are placed again: those of its agent from
-- a time on, or with null from the batch's beginning. In the commit that changes the batch.
CREATE OR REPLACE FUNCTION place_again(p_batch_key bigint, p_since timestamptz) RETURNS void
LANGUAGE sql
AS $$
INSERT INTO placement_jobs (batch_key, agent_id, since, scanned_at)
SELECT b.batch_key, b.agent_id, t.since, t.since
FROM batches AS b
CROSS JOIN LATERAL (SELECT coalesce(p_since, lower((batch_span(b)).span)) AS since) AS t
WHERE b.batch_key = p_batch_key
  AND EXISTS (SELECT FROM unreferenced_events AS u WHERE u.agent_id = b.agent_id AND u.scanned_at >= t.since)
$$;

-- Withdraws recipients of windows that are left without facts: they were created for events that belong elsewhere.
CREATE OR REPLACE FUNCTION withdraw_empty(p_batch_keys bigint[], p_recipient_nos integer[]) RETURNS void
LANGUAGE sql
AS $$
WITH empty AS MATERIALIZED (
    SELECT DISTINCT t.batch_key, t.recipient_no
    FROM unnest(p_batch_keys, p_recipient_nos) AS t (batch_key, recipient_no)
    JOIN batches AS b ON b.batch_key = t.batch_key AND NOT b.is_registered
    JOIN recipients AS r ON r.batch_key = t.batch_key AND r.recipient_no = t.recipient_no AND r.withdrawn_at IS NULL
    WHERE NOT EXISTS (SELECT FROM facts AS f WHERE f.batch_key = t.batch_key AND f.recipient_no = t.recipient_no)
), counted AS (
    UPDATE batches AS b SET withdrawn_count = b.withdrawn_count + e.recipients
    FROM (SELECT batch_key, count(*) AS recipients FROM empty GROUP BY batch_key) AS e
    WHERE b.batch_key = e.batch_key
), shown AS (
    UPDATE outcomes AS o SET state = 'withdrawn', attempts = 0
    FROM empty AS e
    WHERE o.batch_key = e.batch_key AND o.recipient_no = e.recipient_no
)
UPDATE recipients AS r SET withdrawn_at = clock_timestamp()
FROM empty AS e
WHERE r.batch_key = e.batch_key AND r.recipient_no = e.recipient_no;
-- Others may have waited for their room, and the remaining ones may have parameters that were never theirs.
SELECT place_again(b.batch_key, NULL)
FROM batches AS b
WHERE b.batch_key = ANY (p_batch_keys) AND NOT b.is_registered
$$;

-- Every change of which events a batch may take has them placed again: a trigger, so that no writer can forget it.
CREATE OR REPLACE FUNCTION note_batch_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM place_again(NEW.batch_key, NULL);
    ELSIF ((NEW.upload_state IN ('uploading', 'uploaded', 'unknown'), NEW.is_registered, NEW.created_at, NEW.agent_id)
           IS DISTINCT FROM
           (OLD.upload_state IN ('uploading', 'uploaded', 'unknown'), OLD.is_registered, OLD.created_at, OLD.agent_id))
          OR NOT NEW.is_registered AND NEW.total_recipients IS DISTINCT FROM OLD.total_recipients THEN
        PERFORM place_again(NEW.batch_key, least(lower((batch_span(OLD)).span), lower((batch_span(NEW)).span)));
    ELSIF NEW.closed_at IS DISTINCT FROM OLD.closed_at THEN
        PERFORM place_again(NEW.batch_key, least(OLD.closed_at, NEW.closed_at));
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER batches_place_again AFTER INSERT OR UPDATE ON batches
    FOR EACH ROW EXECUTE FUNCTION note_batch_change();

-- Places the next events of a job again, at most p_rows; returns how many got a recipient, or null when nothing is left.
-- Each step is one commit, so after a crash it is either done or not. A job that has not begun also covers the later jobs
-- of its batch.
CREATE OR REPLACE FUNCTION placement_step(p_job_id bigint, p_rows integer) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_job     placement_jobs;
    v_phones  text[];
    v_agents  bigint[];
    v_times   timestamptz[];
    v_last_at timestamptz;
    v_last    bigint;
BEGIN
    PERFORM lock_ingest();
    SELECT * INTO v_job FROM placement_jobs WHERE job_id = p_job_id;
    IF v_job.arrival_id = 0 THEN
        DELETE FROM placement_jobs AS j
        WHERE j.batch_key = v_job.batch_key AND j.job_id > p_job_id AND j.arrival_id = 0 AND j.since >= v_job.since;
    END IF;
    SELECT array_agg(u.agent_id), array_agg(u.phone),
           array_agg(earliest_call(u.started_at, u.called_at)),
           (array_agg(u.scanned_at ORDER BY u.scanned_at DESC, u.arrival_id DESC))[1],
           (array_agg(u.arrival_id ORDER BY u.scanned_at DESC, u.arrival_id DESC))[1]
    INTO v_agents, v_phones, v_times, v_last_at, v_last
    FROM (
        SELECT * FROM unreferenced_events
        WHERE agent_id = v_job.agent_id AND (scanned_at, arrival_id) > (v_job.scanned_at, v_job.arrival_id)
        ORDER BY scanned_at, arrival_id
        LIMIT p_rows
    ) AS u;
    IF v_agents IS NULL THEN
        DELETE FROM placement_jobs WHERE job_id = p_job_id;
        RETURN NULL;
    END IF;
    UPDATE placement_jobs SET scanned_at = v_last_at, arrival_id = v_last WHERE job_id = p_job_id;
    RETURN coalesce(cardinality(place_events(v_agents, v_phones, v_times, v_last_at)), 0);
END
$$;
