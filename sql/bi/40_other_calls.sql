-- bi.other_calls: single and inbound calls, which are in no batch.
CREATE OR REPLACE VIEW bi_full.other_calls AS
SELECT o.kind, o.agent_id, o.phone, o.parameters, o.status, o.status = 'completed' AS is_connect,
       plausible_time(o.called_at) AS called_at, plausible_time(o.started_at) AS started_at,
       plausible_time(o.ended_at) AS ended_at, o.duration_seconds, o.results, o.failure_reason, o.conversation_id, o.source,
       o.event_id, plausible_time(o.occurred_at) AS occurred_at, o.received_at, o.recorded_at AS known_at,
       statement_timestamp() AS as_of
FROM other_events AS o
WHERE o.is_counted;

CREATE OR REPLACE VIEW bi.other_calls AS
SELECT o.kind, o.agent_id, bi_mask_phone(o.phone) AS phone,
       bi_mask_parameters(o.parameters, ARRAY(
           SELECT f.name FROM bi_fields AS f WHERE f.kind = 'parameter' AND f.is_shown)) AS parameters,
       o.status, o.is_connect, o.called_at, o.started_at, o.ended_at, o.duration_seconds,
       bi_mask_results(
           o.results,
           ARRAY(SELECT f.name FROM bi_fields AS f WHERE f.kind = 'result' AND f.is_shown),
           ARRAY(SELECT replace(replace(replace(replace(f.name, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
                 FROM bi_fields AS f WHERE f.kind = 'result' AND NOT f.is_shown),
           coalesce(o.agent_id = ANY (ARRAY(SELECT c.agent_id FROM bi_closed_agents AS c)), true)
       ) AS results,
       bi_mask_text(o.failure_reason) AS failure_reason, bi_mask_id(o.conversation_id, o.phone) AS conversation_id,
       o.source, o.event_id, o.occurred_at, o.received_at, o.known_at, o.as_of
FROM bi_full.other_calls AS o;

COMMENT ON VIEW bi.other_calls IS 'One row for each call that is in no batch, as the rules of the targets file know them. They are in no other view. Filter by called_at: otherwise it reads every such call.';
COMMENT ON COLUMN bi.other_calls.kind IS 'single: placed by itself. inbound: the person called.';
COMMENT ON COLUMN bi.other_calls.agent_id IS 'The provider''s id of the agent; null if the event named none.';
COMMENT ON COLUMN bi.other_calls.phone IS 'The person''s phone, of an inbound call the caller''s; masked: country and last three digits, such as +91*******210.';
COMMENT ON COLUMN bi.other_calls.parameters IS 'The call parameters: all names, and only the values that `outcomes bi show` lets through; the others are null.';
COMMENT ON COLUMN bi.other_calls.status IS 'How the call ended.';
COMMENT ON COLUMN bi.other_calls.is_connect IS 'Whether it connected and ended normally: status is completed.';
COMMENT ON COLUMN bi.other_calls.called_at IS 'started_at, else ended_at, else occurred_at, else received_at.';
COMMENT ON COLUMN bi.other_calls.started_at IS 'When the call began, as the provider reports it; null if it does not.';
COMMENT ON COLUMN bi.other_calls.ended_at IS 'When the call ended; null if the provider does not report it.';
COMMENT ON COLUMN bi.other_calls.duration_seconds IS 'Seconds; null if the provider gave none, as for unanswered calls.';
COMMENT ON COLUMN bi.other_calls.results IS 'What the agent found out. (long text), (masked) and (hidden) stand for what is not shown.';
COMMENT ON COLUMN bi.other_calls.failure_reason IS 'Why it failed, in the provider''s words; numbers like phones are masked.';
COMMENT ON COLUMN bi.other_calls.conversation_id IS 'The provider''s id of the conversation; masked if it contains the phone.';
COMMENT ON COLUMN bi.other_calls.source IS 'Where it comes from: webhook, or healed from the provider''s conversation.';
COMMENT ON COLUMN bi.other_calls.event_id IS 'The event that counts for it: GET /v1/events/{event_id}.';
COMMENT ON COLUMN bi.other_calls.occurred_at IS 'When the provider created that event, by its own clock.';
COMMENT ON COLUMN bi.other_calls.received_at IS 'When that event was received.';
COMMENT ON COLUMN bi.other_calls.known_at IS 'When that event became a call outside batches here.';
COMMENT ON COLUMN bi.other_calls.as_of IS 'The instant of the query.';
