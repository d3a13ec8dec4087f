-- Batches by id, after a given one up to another, created in a period, each with the figures of its outcomes over HTTP.
-- From the counters only: the cost of a batch does not depend on its recipients.
-- Dropped first, because replacing cannot change the columns.
DROP FUNCTION IF EXISTS batch_rows(bigint, timestamptz, timestamptz, bigint, bigint);
CREATE OR REPLACE FUNCTION batch_rows(
    p_agent_id bigint, p_from timestamptz, p_to timestamptz, p_after bigint, p_until bigint
)
RETURNS TABLE (
    batch_id bigint, name text, agent_id bigint, status text, created_at timestamptz, campaign_id bigint,
    campaign_role text, origin text, verdict text, as_of timestamptz, last_event_at timestamptz,
    last_reconciled_at timestamptz, total_recipients bigint, processed bigint, in_progress bigint,
    pending_retry bigint, completed bigint, busy bigint, no_answer bigint, failed bigint, socket_failure bigint,
    telephony_failed bigint, unreachable bigint, healed bigint, attempts bigint, connects bigint,
    success_rate numeric, completion_rate numeric, connect_rate numeric, average_duration_seconds numeric,
    total_duration_seconds bigint, details_outstanding integer, goal_met bigint, goal_rate numeric
)
LANGUAGE sql STABLE ROWS 1000
AS $$
SELECT b.batch_id, b.name, b.agent_id, b.status, coalesce(plausible_time(b.created_at), b.prepared_at), b.campaign_key,
       b.campaign_role, b.origin, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())), now(), y.last_event_at, s.last_reconciled_at,
       t.total, o.processed, greatest(0, t.total - o.known), o.pending_retry, o.completed, o.busy, o.no_answer,
       o.failed, o.socket_failure, o.telephony_failed, o.unreachable, o.healed, a.attempts, a.connects,
       round(100.0 * o.completed / nullif(t.total, 0), 4), round(100.0 * o.completed / nullif(o.processed, 0), 4),
       round(100.0 * a.connects / nullif(a.attempts, 0), 4), round(1.0 * o.talk_seconds / nullif(o.talked, 0), 4),
       o.talk_seconds,
       (SELECT count(*)::integer FROM outstanding_details AS d WHERE d.batch_key = b.batch_key),
       g.recipients, round(100.0 * g.recipients / nullif(t.total, 0), 4)
FROM batches AS b
LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
LEFT JOIN batch_activity AS y ON y.batch_key = b.batch_key
CROSS JOIN LATERAL (
    SELECT shown_total(b) AS total
) AS t
CROSS JOIN LATERAL (
    SELECT coalesce(sum(recipients), 0)::bigint AS known,
           coalesce(sum(recipients) FILTER (WHERE state <> 'pending_retry'), 0)::bigint AS processed,
           coalesce(sum(recipients) FILTER (WHERE state = 'pending_retry'), 0)::bigint AS pending_retry,
           coalesce(sum(recipients) FILTER (WHERE state = 'completed'), 0)::bigint AS completed,
           coalesce(sum(recipients) FILTER (WHERE state = 'busy'), 0)::bigint AS busy,
           coalesce(sum(recipients) FILTER (WHERE state = 'no_answer'), 0)::bigint AS no_answer,
           coalesce(sum(recipients) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
           coalesce(sum(recipients) FILTER (WHERE state = 'socket_failure'), 0)::bigint AS socket_failure,
           coalesce(sum(recipients) FILTER (WHERE state = 'telephony_failed'), 0)::bigint AS telephony_failed,
           coalesce(sum(recipients) FILTER (WHERE state = 'unreachable'), 0)::bigint AS unreachable,
           coalesce(sum(recipients) FILTER (WHERE source = 'healed'), 0)::bigint AS healed,
           coalesce(sum(talked) FILTER (WHERE state = 'completed'), 0)::bigint AS talked,
           coalesce(sum(talk_seconds) FILTER (WHERE state = 'completed'), 0)::bigint AS talk_seconds
    FROM outcome_counts WHERE outcome_counts.batch_key = b.batch_key
) AS o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(attempts), 0)::bigint AS attempts,
           coalesce(sum(attempts) FILTER (WHERE status = 'completed'), 0)::bigint AS connects
    FROM attempt_counts WHERE attempt_counts.batch_key = b.batch_key
) AS a
LEFT JOIN LATERAL count_goal(b.batch_key) AS g ON true
WHERE b.batch_id > p_after AND b.batch_id <= p_until AND (p_agent_id IS NULL OR b.agent_id = p_agent_id)
  AND (p_from IS NULL OR coalesce(b.created_at, b.prepared_at) >= p_from)
  AND (p_to IS NULL OR coalesce(b.created_at, b.prepared_at) < p_to)
ORDER BY b.batch_id
$$;
