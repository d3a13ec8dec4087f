-- Keeps outstanding_details in step with the events of a group, in their transaction and under the ingest lock. A healed
-- event that knows neither results nor a failure reason comes from the provider's list: its details are outstanding, and
-- it replaces an earlier entry of the same call. They are no longer outstanding once an event of the call knows its
-- results, or one of an uncompleted call is a webhook or knows the reason. p_arrival_ids are null for known events.
CREATE OR REPLACE FUNCTION note_details(
    p_arrival_ids bigint[], p_sources text[], p_conversation_ids text[], p_statuses text[], p_started_at timestamptz[],
    p_failure_reasons text[], p_results text[]
) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    DELETE FROM outstanding_details AS d
    USING unnest(p_arrival_ids, p_sources, p_conversation_ids, p_started_at, p_failure_reasons, p_results)
        AS e (arrival_id, source, conversation_id, started_at, failure_reason, results)
    WHERE d.conversation_id = e.conversation_id AND d.arrival_id <> e.arrival_id
      AND coalesce(d.started_at BETWEEN e.started_at - interval '2 s' AND e.started_at + interval '2 s', true)
      AND (knows_results(e.results::jsonb)
           OR NOT d.is_completed AND (e.source = 'webhook' OR e.failure_reason IS NOT NULL)
           OR e.source = 'healed' AND e.results = 'null' AND e.failure_reason IS NULL);
    INSERT INTO outstanding_details (arrival_id, batch_key, conversation_id, started_at, is_completed)
    SELECT e.arrival_id, f.batch_key, e.conversation_id, e.started_at, e.status = 'completed'
    FROM unnest(p_arrival_ids, p_sources, p_conversation_ids, p_statuses, p_started_at, p_failure_reasons, p_results)
        AS e (arrival_id, source, conversation_id, status, started_at, failure_reason, results)
    LEFT JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = e.arrival_id OFFSET 0) AS f ON true
    WHERE e.arrival_id IS NOT NULL AND e.source = 'healed' AND e.results = 'null' AND e.failure_reason IS NULL
      -- Nothing is fetched of an erased person.
      AND (f.conversation_id = e.conversation_id
           OR EXISTS (SELECT FROM unattributed AS u WHERE u.arrival_id = e.arrival_id))
    ON CONFLICT (arrival_id) DO NOTHING;
END
$$;
