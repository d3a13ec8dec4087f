-- Leases batches whose comparison is due to one worker, the longest due first. Other workers skip them until the lease
-- expires; a worker that returns after that finds the fence raised and writes nothing. A lease longer than any that is
-- granted comes from a clock that has been set back since, and is ignored.
CREATE OR REPLACE FUNCTION claim_due_batches(
    p_holder text, p_limit integer, p_lease_seconds double precision, p_now timestamptz
)
RETURNS SETOF batch_schedules
LANGUAGE sql
AS $$
-- Materialised, because a plan might otherwise choose the rows again for each row that it updates.
WITH due AS MATERIALIZED (
    SELECT d.batch_key
    FROM batch_schedules AS d
    WHERE d.due_at <= p_now AND d.due_at < 'infinity' AND (d.leased_until <= p_now OR d.leased_until > p_now + 2 * make_interval(secs => p_lease_seconds))
    ORDER BY d.due_at
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED
)
UPDATE batch_schedules AS s
SET holder = p_holder, leased_until = p_now + make_interval(secs => p_lease_seconds), fence = s.fence + 1
FROM due
WHERE s.batch_key = due.batch_key
RETURNING s.*
$$;
