-- bi.call_attempts: each attempt that counts. If a recipient has as many facts as attempts, each fact is an attempt. Only for
-- the others attempts_of() decides which fact wins, because it costs a call for each recipient.
CREATE OR REPLACE VIEW bi_full.call_attempts AS
SELECT o.batch_key AS upload_id, b.batch_id, b.agent_id, b.name AS batch_name, b.campaign_key AS campaign_id,
       b.campaign_role, coalesce(plausible_time(b.created_at), b.prepared_at) AS batch_created_at,
       o.recipient_no AS recipient, r.phone, r.parameters, f.attempt_number, f.max_attempts, f.status,
       f.status = 'completed' AS is_connect, f.arrival_id = o.arrival_id AS is_latest, f.is_final,
       coalesce(plausible_time(f.started_at), plausible_time(f.ended_at), plausible_time(f.occurred_at)) AS called_at,
       plausible_time(f.started_at) AS started_at, plausible_time(f.ended_at) AS ended_at, f.duration_seconds,
       f.results, f.failure_reason, plausible_time(f.next_retry_at) AS next_retry_at, f.conversation_id, f.source, f.method, f.event_id, plausible_time(f.occurred_at) AS occurred_at,
       f.recorded_at AS known_at, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict, s.verdict_since, s.last_reconciled_at,
       statement_timestamp() AS as_of, f.from_phone, f.trace_id
FROM outcomes AS o
JOIN batches AS b ON b.batch_key = o.batch_key
JOIN recipients AS r ON r.batch_key = o.batch_key AND r.recipient_no = o.recipient_no
LEFT JOIN batch_schedules AS s ON s.batch_key = o.batch_key
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) <> o.attempts THEN bi_winning_arrivals(o.batch_key, o.recipient_no) END AS winners
    FROM facts AS k
    WHERE k.batch_key = o.batch_key AND k.recipient_no = o.recipient_no
) AS w
JOIN facts AS f
    ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no
    AND (w.winners IS NULL OR f.arrival_id = ANY (w.winners))
WHERE r.withdrawn_at IS NULL AND (b.batch_id IS NOT NULL OR b.upload_state IN ('held', 'uploading', 'unknown'));

CREATE OR REPLACE VIEW bi.call_attempts AS
SELECT a.upload_id, a.batch_id, a.agent_id, bi_mask_text(a.batch_name) AS batch_name, a.campaign_id,
       a.campaign_role, a.batch_created_at, a.recipient,
       bi_mask_phone(a.phone) AS phone,
       bi_mask_parameters(a.parameters, ARRAY(
           SELECT f.name FROM bi_fields AS f WHERE f.kind = 'parameter' AND f.is_shown)) AS parameters,
       a.attempt_number, a.max_attempts, a.status, a.is_connect, a.is_latest, a.is_final, a.called_at, a.started_at,
       a.ended_at, a.duration_seconds,
       bi_mask_results(
           a.results,
           ARRAY(SELECT f.name FROM bi_fields AS f WHERE f.kind = 'result' AND f.is_shown),
           ARRAY(SELECT replace(replace(replace(replace(f.name, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
                 FROM bi_fields AS f WHERE f.kind = 'result' AND NOT f.is_shown),
           a.agent_id = ANY (ARRAY(SELECT c.agent_id FROM bi_closed_agents AS c))
       ) AS results,
       bi_mask_text(a.failure_reason) AS failure_reason, a.next_retry_at, bi_mask_id(a.conversation_id, a.phone) AS conversation_id, a.source, a.method,
       a.event_id, a.occurred_at, a.known_at, a.verdict, a.verdict_since, a.last_reconciled_at, a.as_of,
       bi_mask_phone(a.from_phone) AS from_phone, bi_mask_id(a.trace_id, a.phone) AS trace_id
FROM bi_full.call_attempts AS a;

COMMENT ON VIEW bi.call_attempts IS 'One row for each attempt, however many events reported it. Filter by batch_id: otherwise it reads every batch.';
COMMENT ON COLUMN bi.call_attempts.recipient IS 'The recipient''s number in its batch; with upload_id it joins recipient_outcomes.';
COMMENT ON COLUMN bi.call_attempts.phone IS 'The phone, masked: country and last three digits, such as +91*******210.';
COMMENT ON COLUMN bi.call_attempts.parameters IS 'The CSV''s other columns: all names, and only the values that `outcomes bi show` lets through; the others are null.';
COMMENT ON COLUMN bi.call_attempts.attempt_number IS 'The provider''s number of the attempt, from 1; null if it gave none, as for healed ones.';
COMMENT ON COLUMN bi.call_attempts.max_attempts IS 'The maximum number of attempts that the provider makes; null if unknown.';
COMMENT ON COLUMN bi.call_attempts.status IS 'How the attempt ended.';
COMMENT ON COLUMN bi.call_attempts.is_connect IS 'Whether it connected and ended normally: status is completed. Connect rate: connects of all attempts.';
COMMENT ON COLUMN bi.call_attempts.is_latest IS 'Whether it is the recipient''s latest attempt, and so its outcome; true for one attempt of each recipient.';
COMMENT ON COLUMN bi.call_attempts.is_final IS 'No further attempt follows, as far as its event knew.';
COMMENT ON COLUMN bi.call_attempts.called_at IS 'started_at, else ended_at, else occurred_at: the time by which hourly_attempts counts it.';
COMMENT ON COLUMN bi.call_attempts.started_at IS 'When the call began, as the provider reports it; null if it does not.';
COMMENT ON COLUMN bi.call_attempts.ended_at IS 'When the call ended; null if the provider does not report it.';
COMMENT ON COLUMN bi.call_attempts.duration_seconds IS 'Seconds; null if the provider gave none, as for unanswered calls.';
COMMENT ON COLUMN bi.call_attempts.results IS 'What the agent found out. (long text), (masked) and (hidden) stand for what is not shown.';
COMMENT ON COLUMN bi.call_attempts.failure_reason IS 'Why it failed, in the provider''s words; numbers like phones are masked.';
COMMENT ON COLUMN bi.call_attempts.next_retry_at IS 'When the next attempt was due, according to this one''s event.';
COMMENT ON COLUMN bi.call_attempts.conversation_id IS 'The provider''s id of the conversation; masked if it contains the phone.';
COMMENT ON COLUMN bi.call_attempts.source IS 'Where the attempt comes from: webhook, or healed from the provider''s conversation.';
COMMENT ON COLUMN bi.call_attempts.method IS 'How its event was attributed: reference, recipient, window or manual.';
COMMENT ON COLUMN bi.call_attempts.event_id IS 'The event that counts for it: GET /v1/events/{event_id}.';
COMMENT ON COLUMN bi.call_attempts.occurred_at IS 'When the provider created that event, by its own clock.';
COMMENT ON COLUMN bi.call_attempts.known_at IS 'When that event was stored here.';
COMMENT ON COLUMN bi.call_attempts.from_phone IS 'The number that made the attempt, masked like phone; null if its event does not name it.';
COMMENT ON COLUMN bi.call_attempts.trace_id IS 'The provider''s id of the attempt, for its support; masked if it contains the phone.';
