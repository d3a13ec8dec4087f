-- Agents whose calls are healed while none of their webhooks comes: their webhook target is missing, wrong, or does not
-- reach the service. Judged by the agent's batches that are not closed, at most p_counted of them. A few healed calls that
-- did not connect are no proof, because the agent's target may not select their events. A webhook of the agent that waits
-- for a batch, or reports a call outside batches, shows that it reaches the service.
CREATE OR REPLACE FUNCTION list_unreached_agents(p_counted bigint)
RETURNS TABLE (agent_id bigint, healed bigint, since timestamptz, batch_ids bigint[])
LANGUAGE sql STABLE
AS $$
SELECT g.*
FROM (
    SELECT b.agent_id, sum(c.healed)::bigint AS healed, min(least(b.prepared_at, plausible_time(b.created_at))) AS since,
           array_agg(b.batch_id ORDER BY c.healed DESC, b.batch_id) FILTER (WHERE c.healed > 0) AS batch_ids
    FROM (SELECT batch_key FROM batch_schedules WHERE due_at < 'infinity' ORDER BY due_at LIMIT p_counted) AS s
    JOIN batches AS b USING (batch_key)
    JOIN batch_activity AS a USING (batch_key)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(k.recipients) FILTER (WHERE k.source = 'healed'), 0) AS healed,
               coalesce(sum(k.recipients) FILTER (WHERE k.source = 'healed' AND k.state = 'completed'), 0) AS completed,
               coalesce(sum(k.recipients) FILTER (WHERE k.source = 'webhook'), 0) AS reported
        FROM outcome_counts AS k
        WHERE k.batch_key = b.batch_key
    ) AS c
    GROUP BY b.agent_id
    HAVING bool_and(a.last_webhook_at IS NULL) AND sum(c.reported) = 0 AND (sum(c.completed) > 0 OR sum(c.healed) >= 5)
) AS g
WHERE NOT coalesce((
    SELECT u.received_at >= g.since FROM unattributed AS u
    WHERE u.agent_id = g.agent_id AND u.source = 'webhook'
    ORDER BY u.arrival_id DESC
    LIMIT 1), false)
  AND NOT EXISTS (SELECT FROM other_events AS o
                  WHERE o.agent_id = g.agent_id AND o.kind IN ('single', 'inbound') AND o.is_counted
                    AND o.called_at >= g.since AND o.source = 'webhook')
$$;
