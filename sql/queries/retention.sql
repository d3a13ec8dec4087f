-- name: forget_bodies(days, rows, now)$
-- Takes a step of deleting raw bodies older than so many days; returns 0 when nothing is left.
SELECT forget_bodies(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_people(days, rows, now)$
-- Forgets phones and parameters of some recipients of batches quiet for so many days; returns how many.
SELECT forget_people(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_audit(days, rows, now)$
-- Deletes some lines of the audit log older than so many days; returns how many.
SELECT forget_audit(least(clock_timestamp(), :now) - make_interval(days => :days), :rows);

-- name: forget_quarantine(days, rows, now)$
-- Deletes some bodies in quarantine that last came so many days ago, replayed or not; returns how many.
WITH gone AS (
    DELETE FROM quarantine
    WHERE quarantine_id IN (SELECT quarantine_id FROM quarantine
                            WHERE last_received_at < least(clock_timestamp(), :now) - make_interval(days => :days)
                            ORDER BY last_received_at LIMIT :rows)
    RETURNING 1
)
SELECT count(*)::integer FROM gone;

-- name: forget_snapshots(days, rows, now)$
-- Deletes some of the provider's figures last seen so many days ago, but never a batch's latest; returns how many.
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

-- name: forget_rejected_rows(days, rows, now)$
-- Deletes some rejected rows of uploads that were checked so many days ago; returns how many.
WITH gone AS (
    DELETE FROM rejected_rows AS r
    USING (SELECT o.batch_key, o.row_no
           FROM upload_reports AS u
           JOIN rejected_rows AS o USING (batch_key)
           WHERE u.created_at < least(clock_timestamp(), :now) - make_interval(days => :days)
           LIMIT :rows) AS old
    WHERE r.batch_key = old.batch_key AND r.row_no = old.row_no
    RETURNING 1
)
SELECT count(*)::integer FROM gone;

-- name: note_deletion(kind, deleted, now)!
-- Records the last pass that deleted data of a kind.
INSERT INTO retention_deletions (kind, deleted_at, deleted) VALUES (:kind, :now, :deleted)
ON CONFLICT (kind) DO UPDATE SET deleted_at = excluded.deleted_at, deleted = excluded.deleted;

-- name: list_deletions()
-- The last pass that deleted data, for each kind.
SELECT kind, deleted_at, deleted FROM retention_deletions ORDER BY kind;

-- name: grant_service(role)$
-- Grants a role the rights that running the service needs, and nothing more.
SELECT grant_service(:role);
