-- bi.recipient_outcomes: the outcome of each recipient, with the fact that decided it. Plain joins, so that the planner can
-- start from a batch, a position or (in bi_full) a phone. Withdrawn recipients do not count and are left out.
CREATE OR REPLACE VIEW bi_full.recipient_outcomes AS
SELECT r.batch_key AS upload_id, b.batch_id, b.agent_id, b.name AS batch_name, b.campaign_key AS campaign_id,
       b.campaign_role, coalesce(plausible_time(b.created_at), b.prepared_at) AS batch_created_at,
       r.recipient_no AS recipient, r.phone, r.parameters, coalesce(o.state, 'in_progress') AS state, f.status,
       coalesce(f.is_final, false) AS is_final, coalesce(o.attempts, 0) AS attempts, f.duration_seconds, f.results,
       f.failure_reason, plausible_time(f.next_retry_at) AS next_retry_at, coalesce(plausible_time(f.started_at), plausible_time(f.ended_at), plausible_time(f.occurred_at)) AS last_attempt_at,
       f.conversation_id, f.source, f.method, f.event_id, f.recorded_at AS known_at, o.changed_at, o.position,
       coalesce(o.version, 0) AS version, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict, s.verdict_since,
       s.last_reconciled_at, statement_timestamp() AS as_of, f.from_phone, f.trace_id,
       -- Costs nothing where it is not selected.
       shown_goal((SELECT g.rule FROM batch_goals AS g WHERE g.batch_key = r.batch_key), f.status, f.results) AS goal_met
FROM recipients AS r
JOIN batches AS b ON b.batch_key = r.batch_key
LEFT JOIN batch_schedules AS s ON s.batch_key = r.batch_key
LEFT JOIN outcomes AS o ON o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no
LEFT JOIN facts AS f
    ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
WHERE r.withdrawn_at IS NULL AND (b.batch_id IS NOT NULL OR b.upload_state IN ('held', 'uploading', 'unknown'));

-- No security_barrier: what a reader's own function could see here is masked already, and a barrier would keep a filter by
-- position from using its index.
CREATE OR REPLACE VIEW bi.recipient_outcomes AS
SELECT r.upload_id, r.batch_id, r.agent_id, bi_mask_text(r.batch_name) AS batch_name, r.campaign_id,
       r.campaign_role, r.batch_created_at, r.recipient,
       bi_mask_phone(r.phone) AS phone,
       bi_mask_parameters(r.parameters, ARRAY(
           SELECT f.name FROM bi_fields AS f WHERE f.kind = 'parameter' AND f.is_shown)) AS parameters,
       r.state, r.status, r.is_final, r.attempts, r.duration_seconds,
       bi_mask_results(
           r.results,
           ARRAY(SELECT f.name FROM bi_fields AS f WHERE f.kind = 'result' AND f.is_shown),
           ARRAY(SELECT replace(replace(replace(replace(f.name, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
                 FROM bi_fields AS f WHERE f.kind = 'result' AND NOT f.is_shown),
           r.agent_id = ANY (ARRAY(SELECT c.agent_id FROM bi_closed_agents AS c))
       ) AS results,
       bi_mask_text(r.failure_reason) AS failure_reason, r.next_retry_at, r.last_attempt_at, bi_mask_id(r.conversation_id, r.phone) AS conversation_id, r.source,
       r.method, r.event_id, r.known_at, r.changed_at, r.position, r.version, r.verdict, r.verdict_since,
       r.last_reconciled_at, r.as_of, bi_mask_phone(r.from_phone) AS from_phone, bi_mask_id(r.trace_id, r.phone) AS trace_id,
       r.goal_met
FROM bi_full.recipient_outcomes AS r;

COMMENT ON VIEW bi.recipient_outcomes IS 'One row for each recipient: its parameters, its present outcome and what decided it. Filter by batch_id, or by position to continue where you stopped.';
COMMENT ON COLUMN bi.recipient_outcomes.recipient IS 'The recipient''s number in its batch, from 1: the CSV''s row. With upload_id the key of this view.';
COMMENT ON COLUMN bi.recipient_outcomes.phone IS 'The phone, masked: country and last three digits, such as +91*******210.';
COMMENT ON COLUMN bi.recipient_outcomes.parameters IS 'The CSV''s other columns: all names, and only the values that `outcomes bi show` lets through; the others are null.';
COMMENT ON COLUMN bi.recipient_outcomes.state IS 'The counted state: in_progress (no attempt known yet), pending_retry, or the final status.';
COMMENT ON COLUMN bi.recipient_outcomes.status IS 'How the latest attempt ended; null before the first.';
COMMENT ON COLUMN bi.recipient_outcomes.is_final IS 'No further attempt follows, as far as is known.';
COMMENT ON COLUMN bi.recipient_outcomes.attempts IS 'Attempts so far.';
COMMENT ON COLUMN bi.recipient_outcomes.duration_seconds IS 'Seconds of the latest attempt; null if the provider gave none.';
COMMENT ON COLUMN bi.recipient_outcomes.results IS 'What the agent found out in the latest attempt. (long text), (masked) and (hidden) stand for what is not shown.';
COMMENT ON COLUMN bi.recipient_outcomes.failure_reason IS 'Why the latest attempt failed, in the provider''s words; numbers like phones are masked.';
COMMENT ON COLUMN bi.recipient_outcomes.next_retry_at IS 'When the next attempt is due; null if none is due, or the provider gave no time.';
COMMENT ON COLUMN bi.recipient_outcomes.last_attempt_at IS 'When the latest attempt began, or another of its times if that is unknown.';
COMMENT ON COLUMN bi.recipient_outcomes.conversation_id IS 'The provider''s id of the latest attempt''s conversation; masked if it contains the phone.';
COMMENT ON COLUMN bi.recipient_outcomes.source IS 'Where the outcome comes from: webhook, or healed from the provider''s conversation.';
COMMENT ON COLUMN bi.recipient_outcomes.method IS 'How the event was attributed: reference (named exactly), recipient (agent and phone), window (the only open batch), manual (by a person).';
COMMENT ON COLUMN bi.recipient_outcomes.event_id IS 'The event that decided the outcome: GET /v1/events/{event_id}.';
COMMENT ON COLUMN bi.recipient_outcomes.known_at IS 'When that event was stored here.';
COMMENT ON COLUMN bi.recipient_outcomes.changed_at IS 'When the outcome last changed. Not indexed: filter by position.';
COMMENT ON COLUMN bi.recipient_outcomes.position IS 'The place of its last change among all changes: a reader that has read up to n continues with position > n and misses none. Null before the first attempt.';
COMMENT ON COLUMN bi.recipient_outcomes.version IS 'How often the outcome has changed; 0 before the first attempt.';
COMMENT ON COLUMN bi.recipient_outcomes.from_phone IS 'The number that made the latest attempt, masked like phone; null if the event that decided it does not name it.';
COMMENT ON COLUMN bi.recipient_outcomes.trace_id IS 'The provider''s id of the latest attempt, for its support; masked if it contains the phone.';
COMMENT ON COLUMN bi.recipient_outcomes.goal_met IS 'The latest attempt meets the goal of the campaign or agent. Null without a goal, before the first attempt, and while the results of a completed call are not known.';
