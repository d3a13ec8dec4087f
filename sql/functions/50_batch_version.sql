-- The retries that a batch waits for, by when they are due as seen from p_now. A minute has passed when all of it has, so
-- these figures change with the minute and not in between. Reads only minutes that still have a retry.
CREATE OR REPLACE FUNCTION count_retries(p_batch_key bigint, p_now timestamptz)
RETURNS TABLE (
    overdue bigint, due_within_hour bigint, due_later bigint, without_time bigint, earliest_at timestamptz,
    next_at timestamptz
)
LANGUAGE sql STABLE ROWS 1
AS $$
SELECT coalesce(sum(c.recipients) FILTER (WHERE c.due_at < n.minute), 0)::bigint,
       coalesce(sum(c.recipients) FILTER (WHERE c.due_at >= n.minute AND c.due_at < n.minute + interval '1 hour'), 0)::bigint,
       coalesce(sum(c.recipients) FILTER (WHERE c.due_at >= n.minute + interval '1 hour' AND isfinite(c.due_at)), 0)::bigint,
       coalesce(sum(c.recipients) FILTER (WHERE NOT isfinite(c.due_at)), 0)::bigint,
       min(c.due_at) FILTER (WHERE isfinite(c.due_at)),
       min(c.due_at) FILTER (WHERE c.due_at >= n.minute AND isfinite(c.due_at))
FROM (SELECT retry_slot(p_now) AS minute) AS n
LEFT JOIN retry_counts AS c ON c.batch_key = p_batch_key AND c.is_open
$$;

-- A digest of everything that determines the outcomes of a batch, at the cost of a few look-ups by key: its row, the
-- revision of its counters, the goals of its agent and campaign, its verdict and last comparison, the events that wait in the spill stream, its retries as seen from p_now, and the batches of its
-- campaign. Within a statement it is of the same instant as the counters that the statement reads. In PL/pgSQL, which
-- keeps its plan. It includes the timeline, because after a restore the same revisions come again with other counters.
CREATE OR REPLACE FUNCTION batch_version(p_batch_key bigint, p_now timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT md5(concat_ws('|',
            (SELECT t.first_position FROM feed_timelines AS t ORDER BY t.first_position DESC LIMIT 1),
            ROW (b.batch_id, b.agent_id, b.name, b.status, b.created_at, b.total_recipients, b.recipient_count,
                 b.withdrawn_count, b.campaign_key, a.revision, a.last_event_at, s.verdict, s.verdict_since,
                 s.last_reconciled_at, s.healing, s.details_expected_at)::text,
            (SELECT count(*) FROM outstanding_details AS d WHERE d.batch_key = b.batch_key),
            (SELECT p::text FROM find_spilled() AS p),
            (SELECT r.reconciliation_id FROM reconciliations AS r
             WHERE r.batch_key = b.batch_key ORDER BY r.reconciliation_id DESC LIMIT 1),
            (SELECT max(g.goal_id) FROM agent_goals AS g WHERE g.agent_id = b.agent_id),
            (SELECT max(g.goal_id) FROM agent_goals AS g WHERE g.campaign_key = b.campaign_key),
            (SELECT c::text FROM count_retries(b.batch_key, p_now) AS c),
            (SELECT string_agg(ROW (m.batch_key, m.batch_id, m.upload_state, m.total_recipients, m.recipient_count,
                                    m.withdrawn_count, k.revision, k.last_event_at)::text, '|' ORDER BY m.batch_key)
             FROM batches AS m
             LEFT JOIN batch_activity AS k ON k.batch_key = m.batch_key
             WHERE m.campaign_key = b.campaign_key)))
        FROM batches AS b
        LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
        LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
        WHERE b.batch_key = p_batch_key
    );
END
$$;
