-- bi.batch_outcomes: the figures of …/outcomes, one row for each batch, from the counters; the top of
-- service/outcomes/summary.py has the definitions. Reads a few rows for each batch, whatever its size.
CREATE OR REPLACE VIEW bi_full.batch_outcomes AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       b.provider_status, m.total AS recipients_total, o.processed AS recipients_processed,
       m.total - o.touched AS recipients_in_progress, o.pending_retry AS recipients_pending_retry,
       o.touched AS recipients_attempted,
       o.completed AS recipients_completed, o.busy AS recipients_busy, o.no_answer AS recipients_no_answer,
       o.failed AS recipients_failed, o.socket_failure AS recipients_socket_failure,
       o.telephony_failed AS recipients_telephony_failed, o.unreachable AS recipients_unreachable,
       t.total AS attempts_total, t.completed AS attempts_completed, t.busy AS attempts_busy,
       t.no_answer AS attempts_no_answer, t.failed AS attempts_failed, t.socket_failure AS attempts_socket_failure,
       t.telephony_failed AS attempts_telephony_failed, t.unreachable AS attempts_unreachable,
       n.recipients_by_attempts,
       100::float8 * o.completed / nullif(m.total, 0) AS success_rate_percent,
       100::float8 * o.completed / nullif(o.processed, 0) AS completion_rate_percent,
       100::float8 * t.completed / nullif(t.total, 0) AS connect_rate_percent,
       100::float8 * o.touched / nullif(m.total, 0) AS penetration_percent,
       t.total::float8 / nullif(t.completed, 0) AS attempts_per_connect,
       o.talk_seconds AS talk_seconds_total, o.talked AS talk_count,
       o.talk_seconds::float8 / nullif(o.talked, 0) AS talk_seconds_average,
       o.from_webhooks AS recipients_from_webhooks, o.healed AS recipients_healed,
       b.last_event_at, b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of,
       h.met AS recipients_goal_met, 100::float8 * h.met / nullif(m.total, 0) AS goal_rate_percent
FROM bi_full.batches AS b
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.recipients), 0)::bigint AS touched,
           coalesce(sum(c.recipients) FILTER (WHERE c.state <> 'pending_retry'), 0)::bigint AS processed,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'pending_retry'), 0)::bigint AS pending_retry,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'completed'), 0)::bigint AS completed,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'busy'), 0)::bigint AS busy,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'no_answer'), 0)::bigint AS no_answer,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'failed'), 0)::bigint AS failed,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'socket_failure'), 0)::bigint AS socket_failure,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'telephony_failed'), 0)::bigint AS telephony_failed,
           coalesce(sum(c.recipients) FILTER (WHERE c.state = 'unreachable'), 0)::bigint AS unreachable,
           coalesce(sum(c.talked) FILTER (WHERE c.state = 'completed'), 0)::bigint AS talked,
           coalesce(sum(c.talk_seconds) FILTER (WHERE c.state = 'completed'), 0)::bigint AS talk_seconds,
           coalesce(sum(c.recipients) FILTER (WHERE c.source = 'webhook'), 0)::bigint AS from_webhooks,
           coalesce(sum(c.recipients) FILTER (WHERE c.source = 'healed'), 0)::bigint AS healed
    FROM outcome_counts AS c
    WHERE c.batch_key = b.upload_id AND c.recipients > 0
) AS o
CROSS JOIN LATERAL (SELECT greatest(b.total_recipients, o.touched) AS total) AS m
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.attempts), 0)::bigint AS total,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'completed'), 0)::bigint AS completed,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'busy'), 0)::bigint AS busy,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'no_answer'), 0)::bigint AS no_answer,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'failed'), 0)::bigint AS failed,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'socket_failure'), 0)::bigint AS socket_failure,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'telephony_failed'), 0)::bigint AS telephony_failed,
           coalesce(sum(c.attempts) FILTER (WHERE c.status = 'unreachable'), 0)::bigint AS unreachable
    FROM attempt_counts AS c
    WHERE c.batch_key = b.upload_id AND c.attempts > 0
) AS t
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(g.attempts, g.recipients), '{}') AS recipients_by_attempts
    FROM (
        SELECT c.attempts, sum(c.recipients) AS recipients
        FROM outcome_counts AS c
        WHERE c.batch_key = b.upload_id AND c.recipients > 0
        GROUP BY c.attempts
    ) AS g
) AS n
-- As count_goal(), whose tables a reader may not read.
LEFT JOIN LATERAL (
    SELECT CASE WHEN c.recipients IS NOT NULL THEN c.recipients WHEN o.touched = 0 THEN 0 END AS met
    FROM batch_goals AS g
    LEFT JOIN goal_counts AS c ON c.batch_key = b.upload_id AND c.goal_id = g.goal_id AND c.counted_to = 2147483647
    WHERE g.batch_key = b.upload_id
) AS h ON true;

SELECT bi_mask_view('batch_outcomes');

COMMENT ON VIEW bi.batch_outcomes IS 'The outcomes of each batch in one row. Columns count recipients unless they name attempts. To combine batches, sum the counts and divide again; never average rates.';
COMMENT ON COLUMN bi.batch_outcomes.provider_status IS 'The provider''s status of the batch, unchanged.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_total IS 'All recipients of the batch: processed, in progress and waiting for a retry.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_processed IS 'Recipients with a final status: the sum of the seven below.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_in_progress IS 'Recipients without a known attempt.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_pending_retry IS 'Recipients whose latest attempt will be followed by another; counted here and in no status.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_attempted IS 'Recipients called at least once: processed and waiting for a retry.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_completed IS 'Recipients whose final status is completed: connected and ended normally. The provider calls it success.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_busy IS 'Recipients whose final status is busy: the line was busy.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_no_answer IS 'Recipients whose final status is no_answer: it rang, and nobody answered.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_failed IS 'Recipients whose final status is failed: set-up failed. The provider''s failed_count includes telephony_failed.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_socket_failure IS 'Recipients whose final status is socket_failure: connected, but the voice did not start.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_telephony_failed IS 'Recipients whose final status is telephony_failed: the carrier failed.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_unreachable IS 'Recipients whose final status is unreachable: the number could not be reached.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_total IS 'Call attempts, each counted once.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_completed IS 'Attempts that connected and ended normally: connects.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_busy IS 'Attempts with status busy.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_no_answer IS 'Attempts with status no_answer.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_failed IS 'Attempts with status failed.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_socket_failure IS 'Attempts with status socket_failure.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_telephony_failed IS 'Attempts with status telephony_failed.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_unreachable IS 'Attempts with status unreachable.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_by_attempts IS 'Recipients by number of attempts, such as {"1": 420, "2": 65}; those without any are recipients_in_progress.';
COMMENT ON COLUMN bi.batch_outcomes.success_rate_percent IS 'Percent, unrounded: recipients_completed of recipients_total. The provider''s definition.';
COMMENT ON COLUMN bi.batch_outcomes.completion_rate_percent IS 'Percent, unrounded: recipients_completed of recipients_processed.';
COMMENT ON COLUMN bi.batch_outcomes.connect_rate_percent IS 'Percent, unrounded: attempts_completed of attempts_total.';
COMMENT ON COLUMN bi.batch_outcomes.penetration_percent IS 'Percent, unrounded: recipients_attempted of recipients_total.';
COMMENT ON COLUMN bi.batch_outcomes.attempts_per_connect IS 'attempts_total divided by attempts_completed; null without a completed attempt.';
COMMENT ON COLUMN bi.batch_outcomes.talk_seconds_total IS 'Seconds talked in the latest attempts of completed recipients.';
COMMENT ON COLUMN bi.batch_outcomes.talk_count IS 'Completed recipients whose latest attempt has a duration: the denominator of the average.';
COMMENT ON COLUMN bi.batch_outcomes.talk_seconds_average IS 'Seconds, unrounded: talk_seconds_total divided by talk_count.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_from_webhooks IS 'Recipients whose outcome comes from a webhook.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_healed IS 'Recipients whose outcome comes from the provider''s conversation, because the webhook was lost.';
COMMENT ON COLUMN bi.batch_outcomes.recipients_goal_met IS 'Recipients whose latest attempt meets the agent''s goal (PUT /v1/agents/{agent_id}/goal). Null without a goal, and while it is being counted after a change.';
COMMENT ON COLUMN bi.batch_outcomes.goal_rate_percent IS 'Percent, unrounded: recipients_goal_met of recipients_total.';
