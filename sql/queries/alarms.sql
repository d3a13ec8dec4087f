-- name: note_rejected_signatures(target, rejections)!
-- Adds the signatures that a replica has rejected since its last report.
INSERT INTO rejected_signatures AS r (minute, target, rejections)
VALUES (date_trunc('minute', clock_timestamp()), :target, :rejections)
ON CONFLICT (minute, target) DO UPDATE SET rejections = r.rejections + excluded.rejections;

-- name: forget_rejected_signatures()!
-- Drops rows that no alarm uses any more.
DELETE FROM rejected_signatures WHERE minute < clock_timestamp() - interval '7 days';

-- name: list_alarms(counted, shown)
-- What is wrong now: since when, how many (counted up to :counted), and some of the provider's batches concerned. Each
-- part reads a few rows by an index; an alarm that is off has a count of 0.
SELECT 'drift' AS name, min(d.verdict_since) AS since, count(*) AS count,
       (array_agg(b.batch_id ORDER BY d.verdict_since))[1 : :shown] AS batches
FROM (SELECT * FROM batch_schedules
      WHERE verdict = 'drifted' AND NOT EXISTS (SELECT FROM find_spilled()) AND verdict_since < clock_timestamp() - interval '1 hour'
      ORDER BY verdict_since LIMIT :counted) AS d
JOIN batches AS b USING (batch_key)
UNION ALL
SELECT 'healed_events', min(h.compared_at), coalesce(sum(h.healed), 0), (array_agg(DISTINCT b.batch_id))[1 : :shown]
FROM (SELECT * FROM reconciliations
      WHERE healed > 0 AND compared_at > clock_timestamp() - interval '1 day'
      ORDER BY compared_at LIMIT :counted) AS h
JOIN batches AS b USING (batch_key)
UNION ALL
SELECT 'webhooks_silent', min(s.verdict_since), count(*), (array_agg(b.batch_id))[1 : :shown]
FROM (SELECT * FROM batch_schedules WHERE due_at < 'infinity' AND verdict <> 'complete' ORDER BY due_at LIMIT :counted) AS s
JOIN batches AS b USING (batch_key)
CROSS JOIN LATERAL (
    SELECT reasons FROM reconciliations AS r WHERE r.batch_key = s.batch_key ORDER BY r.reconciliation_id DESC LIMIT 1
) AS l
WHERE l.reasons @> '[{"code": "webhooks_silent"}]'
UNION ALL
SELECT 'webhooks_missing', min(m.since), coalesce(sum(m.healed), 0),
       (array_agg(k.batch_id ORDER BY k.batch_id) FILTER (WHERE k.batch_id IS NOT NULL))[1 : :shown]
FROM list_unreached_agents(:counted) AS m
LEFT JOIN LATERAL unnest(m.batch_ids) AS k (batch_id) ON true
UNION ALL
SELECT 'batch_stuck', min(k.since), count(*), (array_agg(k.batch_id ORDER BY k.since))[1 : :shown]
FROM list_stuck_batches(:counted) AS k
UNION ALL
SELECT 'signatures_rejected', min(r.minute), coalesce(sum(r.rejections), 0), NULL
FROM rejected_signatures AS r
WHERE r.minute > clock_timestamp() - interval '15 minutes'
UNION ALL
SELECT 'unattributed_events', min(u.received_at), count(*), NULL
FROM (SELECT received_at FROM unattributed WHERE is_question(source) ORDER BY arrival_id LIMIT :counted) AS u
UNION ALL
SELECT 'references_contradicted', min(x.received_at), count(*), (array_agg(DISTINCT b.batch_id))[1 : :shown]
FROM (SELECT * FROM reference_contradictions WHERE received_at > clock_timestamp() - interval '1 day'
      ORDER BY received_at LIMIT :counted) AS x
JOIN batches AS b USING (batch_key)
UNION ALL
SELECT 'quarantine_not_empty', min(q.received_at), count(*), NULL
FROM (SELECT received_at FROM quarantine WHERE replayed_at IS NULL ORDER BY quarantine_id LIMIT :counted) AS q
UNION ALL
SELECT 'spill_waiting', coalesce(min(s.since), min(clock_timestamp())), coalesce(sum(greatest(s.events, 1)), 0), NULL
FROM (
    SELECT p.events, p.since FROM find_spilled() AS p
    WHERE coalesce(p.since, (SELECT min(k.alive_until) FROM spill_replicas AS k)) < clock_timestamp() - interval '5 minutes'
) AS s
UNION ALL
SELECT 'spill_replaced', coalesce(min(a.checked_at), min(s.checked_at)), count(*), NULL
FROM spill_states AS s LEFT JOIN spill_states AS a ON a.is_accepted
WHERE NOT s.is_accepted
UNION ALL
SELECT 'spill_unreachable', min(r.unreachable_since), count(*), NULL
FROM spill_replicas AS r
WHERE r.alive_until >= clock_timestamp() AND r.unreachable_since < clock_timestamp() - interval '1 minute'
UNION ALL
SELECT 'provider_unreachable', min(p.failing_since), count(*), NULL
FROM provider_budgets AS p
WHERE p.failures >= 5
UNION ALL
SELECT 'uploads_unknown', min(u.upload_changed_at), count(*),
       (SELECT (array_agg(w.batch_id ORDER BY w.batch_id))[1 : :shown]
        FROM withheld_batches AS w
        JOIN batches AS k ON k.batch_key = w.upload_key AND k.upload_state = 'unknown')
FROM (SELECT upload_changed_at FROM batches WHERE upload_state = 'unknown' LIMIT :counted) AS u
UNION ALL
SELECT 'feed_consumer_lagging', min(c.behind_since), count(*), NULL
FROM list_feed_consumers(NULL, 0) AS c
WHERE c.behind_since < clock_timestamp() - interval '1 hour'
UNION ALL
SELECT 'provider_list_flawed', min(p.odd_since), coalesce(sum(p.odd_entries), 0),
       (SELECT (array_agg(DISTINCT u.batch_id))[1 : :shown]
        FROM provider_lists AS k CROSS JOIN LATERAL unnest(k.batch_ids) AS u (batch_id))
FROM provider_lists AS p
WHERE p.odd_entries > 0;

-- name: list_list_flaws()
-- The number of flaws in the provider's lists when they were last read, for each reason.
SELECT f.key AS reason, sum(f.value::integer)::bigint AS count
FROM provider_lists AS p
CROSS JOIN LATERAL jsonb_each_text(p.reasons) AS f
GROUP BY f.key
ORDER BY f.key;

-- name: list_unreached_agents(counted)
-- Agents whose calls are healed while none of their webhooks comes, with the number of calls healed.
SELECT agent_id, healed FROM list_unreached_agents(:counted) ORDER BY healed DESC, agent_id;

-- name: list_stuck_calls(counted, shown)
-- Recipients that batches are stuck on, with the conversation and the trace id of their latest known call.
SELECT k.batch_id, u.recipient_no AS recipient, f.conversation_id, f.trace_id
FROM list_stuck_batches(:counted) AS k
CROSS JOIN LATERAL unnest(k.recipients) AS u (recipient_no)
LEFT JOIN outcomes AS o ON o.batch_key = k.batch_key AND o.recipient_no = u.recipient_no
LEFT JOIN facts AS f ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
ORDER BY k.since, k.batch_id, u.recipient_no
LIMIT :shown;
