-- name: forget_bodies(days, rows, now)$
-- Takes a step of dropping raw bodies older than so many days; 0 when there is nothing to drop.
SELECT forget_bodies(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_people(days, rows, now)$
-- Forgets phones and parameters of some recipients of batches quiet for so many days; how many.
SELECT forget_people(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_audit(days, rows, now)$
-- Forgets some lines of the audit log; how many.
SELECT forget_audit(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_quarantine(days, rows, now)$
-- Forgets some bodies in quarantine that last came so many days ago, replayed or not; how many.
WITH gone AS (
    DELETE FROM quarantine
    WHERE quarantine_id IN (SELECT quarantine_id FROM quarantine
                            WHERE last_received_at < least(clock_timestamp(), :now) - make_interval(days => :days)
                            ORDER BY last_received_at LIMIT :rows)
    RETURNING 1
)
SELECT count(*)::integer FROM gone;

-- name: forget_snapshots(days, rows, now)$
-- Forgets some of the provider's figures last seen so many days ago, but never a batch's latest; how many.
WITH gone AS (
    DELETE FROM provider_metrics AS m
    USING (SELECT o.batch_key, o.taken_at
           FROM provider_metrics AS o
           WHERE o.last_seen_at < least(clock_timestamp(), :now) - make_interval(days => :days)
             AND EXISTS (SELECT FROM provider_metrics AS n WHERE n.batch_key = o.batch_key AND n.taken_at > o.taken_at)
           ORDER BY o.last_seen_at LIMIT :rows) AS old
    WHERE m.batch_key = old.batch_key AND m.taken_at = old.taken_at
    RETURNING 1
)
SELECT count(*)::integer FROM gone;

-- name: grant_service(role)$
-- Gives a role what running the service takes, and nothing more.
SELECT grant_service(:role);
