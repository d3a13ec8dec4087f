-- name: claim_provider_call(account, reserved, probe_seconds, now)^
-- Claims one call to the provider, or says why not and when to ask again.
SELECT refusal, wait_seconds FROM claim_provider_call(:account, :reserved, :probe_seconds, :now);

-- name: record_provider_answer(account, failed, limit, remaining, reset_seconds, block_seconds, backoff_seconds, now)$
-- Takes down what an answer tells about the budget.
SELECT record_provider_answer(
    :account, :failed, :limit, :remaining, :reset_seconds, :block_seconds, :backoff_seconds, :now);

-- name: schedule_batches(interval_seconds, now)$
-- Gives every batch that the provider knows a schedule, and makes those due again that have changed since they were
-- last compared, were they put off; tells how many. Reads one small row for each batch. What lies further ahead than it is
-- ever put was put there by a clock that has been set back since: that is due now.
WITH added AS (
    INSERT INTO batch_schedules (batch_key, due_at)
    SELECT b.batch_key, :now
    FROM batches AS b
    WHERE b.batch_id IS NOT NULL AND NOT EXISTS (SELECT FROM batch_schedules AS s WHERE s.batch_key = b.batch_key)
    ON CONFLICT DO NOTHING
    RETURNING 1
), mended AS (
    UPDATE batch_schedules AS s
    SET due_at = :now, last_reconciled_at = least(s.last_reconciled_at, :now)
    WHERE (s.due_at < 'infinity' AND s.due_at > :now + 2 * greatest(interval '1 hour', make_interval(secs => :interval_seconds)))
       OR s.last_reconciled_at > :now + interval '1 hour'
    RETURNING s.batch_key
), woken AS (
    UPDATE batch_schedules AS s
    SET due_at = greatest(:now, s.last_reconciled_at + make_interval(secs => :interval_seconds))
    FROM batch_activity AS a
    WHERE a.batch_key = s.batch_key
      AND (a.revision <> s.compared_revision OR s.compared_revision IS NULL AND a.last_event_at > s.last_reconciled_at)
      AND s.due_at > greatest(:now, s.last_reconciled_at + make_interval(secs => :interval_seconds))
      AND NOT EXISTS (SELECT FROM mended AS m WHERE m.batch_key = s.batch_key)
    RETURNING 1
)
SELECT (SELECT count(*) FROM added) + (SELECT count(*) FROM mended) + (SELECT count(*) FROM woken);

-- name: claim_due_batches(holder, limit, lease_seconds, now)
-- Leases batches that are due to the holder.
SELECT s.batch_key, s.fence, s.verdict, s.verdict_since, s.last_reconciled_at, s.healing, b.batch_id, b.agent_id
FROM claim_due_batches(:holder, :limit, :lease_seconds, :now) AS s
JOIN batches AS b ON b.batch_key = s.batch_key;

-- name: claim_batch(batch_id, holder, lease_seconds, now)^
-- Leases one batch on demand, due or not; nothing while somebody else is at it or the batch is unknown.
INSERT INTO batch_schedules AS s (batch_key, due_at, holder, leased_until, fence)
SELECT b.batch_key, :now, :holder, :now::timestamptz + make_interval(secs => :lease_seconds), 1
FROM batches AS b
WHERE b.batch_id = :batch_id
ON CONFLICT (batch_key) DO UPDATE
SET holder = excluded.holder, leased_until = excluded.leased_until, fence = s.fence + 1
WHERE s.leased_until <= :now OR s.leased_until > :now + 2 * make_interval(secs => :lease_seconds)
RETURNING s.batch_key, s.fence, s.verdict, s.verdict_since, s.last_reconciled_at, s.healing;

-- name: save_healing(batch_key, fence, healing, leased_until)$
-- How far the walk has come, and a longer lease; null when the lease was lost.
UPDATE batch_schedules AS s
SET healing = :healing, leased_until = greatest(s.leased_until, :leased_until)
WHERE s.batch_key = :batch_key AND s.fence = :fence
RETURNING s.batch_key;

-- name: release_batch(batch_key, fence, due_at)!
-- Gives a lease back after a comparison that failed, to be tried again.
UPDATE batch_schedules SET leased_until = '-infinity', holder = NULL, due_at = :due_at
WHERE batch_key = :batch_key AND fence = :fence;

-- name: record_snapshot(batch_key, fence, at, figures)$
-- Keeps the provider's figures; gives the time since when they stand so, or null when the lease was lost.
SELECT record_snapshot(:batch_key, :fence, :at, :figures);

-- name: get_snapshot_before(batch_key, at)^
-- The provider's figures as they stood at a given time.
SELECT * FROM provider_metrics WHERE batch_key = :batch_key AND taken_at <= :at ORDER BY taken_at DESC LIMIT 1;

-- name: record_reconciliation(batch_key, fence, at, verdict, reasons, differences, inconsistencies, calls_spent, healed, due_at)$
-- Ends a worker's turn at a batch; false when its lease was lost, and then nothing is written.
SELECT record_reconciliation(
    :batch_key, :fence, :at, :verdict, :reasons, :differences, :inconsistencies, :calls_spent, :healed, :due_at);

-- name: list_reconciliations(batch_id, before, limit)
-- What the comparisons of a batch came to, newest first, before a given one.
SELECT r.reconciliation_id, r.compared_at, r.last_compared_at, r.comparisons, r.verdict, r.reasons, r.differences,
       r.inconsistencies, r.calls_spent, r.healed
FROM reconciliations AS r
WHERE r.batch_key = (SELECT b.batch_key FROM batches AS b WHERE b.batch_id = :batch_id)
  AND r.reconciliation_id < :before
ORDER BY r.reconciliation_id DESC
LIMIT :limit;

-- name: ensure_ref_token(batch_key)$
-- The token that names the batch in references; made now where the batch has none yet.
UPDATE batches
SET ref_token = coalesce(ref_token, replace(gen_random_uuid()::text, '-', ''))
WHERE batch_key = :batch_key
RETURNING ref_token;

-- name: has_event(event_id)$
-- Whether an event is in the ledger already, and has found its place: to ingest one that waits tries it again.
SELECT EXISTS (
    SELECT FROM events AS e
    WHERE e.event_id = :event_id AND NOT EXISTS (SELECT FROM unattributed AS u WHERE u.arrival_id = e.arrival_id));

-- name: find_called_recipients(agent_id, phone, conversation_id, started_at)
-- For each call (its place n in the arrays, from 1) every recipient of the agent's batches that it can have been made to,
-- with the evidence. is_named: facts of this conversation are there already. Of those that speak of this very call:
-- latest_status is what the latest says, is_certain that it is final or a webhook, call_number and known_until are their
-- attempt number and time. is_due: when the call began, the batch was there and the recipient not yet finished.
SELECT c.n, r.batch_key, r.recipient_no, coalesce(k.is_named, false) AS is_named, k.latest_status,
       coalesce(k.is_certain, false) AS is_certain, k.call_number, k.known_until,
       NOT EXISTS (
           SELECT FROM outcomes AS o
           JOIN facts AS f USING (batch_key, recipient_no, arrival_id)
           WHERE o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no AND o.state <> 'pending_retry'
             AND (f.is_final OR o.state <> 'erased')
             AND coalesce(f.started_at, f.ended_at, f.occurred_at) + interval '2 s' < c.started_at) AS is_due
FROM unnest(:phone::text[], :conversation_id::text[], :started_at::timestamptz[])
    WITH ORDINALITY AS c (phone, conversation_id, started_at, n)
CROSS JOIN LATERAL (
    SELECT batch_key, recipient_no, false AS is_erased, c.conversation_id
    FROM recipients WHERE recipients.phone = c.phone AND recipients.withdrawn_at IS NULL
    UNION ALL
    SELECT e.batch_key, e.recipient_no, true, hash_call(c.conversation_id)
    FROM find_erased(:agent_id, c.phone, c.started_at) AS e
    OFFSET 0
) AS r
JOIN batches AS b ON b.batch_key = r.batch_key
LEFT JOIN LATERAL (
    SELECT true AS is_named,
           (array_agg(f.status ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC)
                FILTER (WHERE s.is_same))[1] AS latest_status,
           (array_agg(f.is_final OR f.source = 'webhook' ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC)
                FILTER (WHERE s.is_same))[1] AS is_certain,
           max(f.attempt_number) FILTER (WHERE s.is_same) AS call_number,
           max(f.occurred_at) FILTER (WHERE s.is_same) AS known_until
    FROM facts AS f
    CROSS JOIN LATERAL (
        SELECT coalesce(f.started_at BETWEEN c.started_at - interval '2 s' AND c.started_at + interval '2 s',
                        c.started_at <= f.occurred_at + interval '2 s', true) AS is_same
    ) AS s
    WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no AND f.conversation_id = r.conversation_id
    HAVING count(*) > 0
) AS k ON true
WHERE b.agent_id = :agent_id AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
  AND (k.is_named OR c.started_at IS NULL
       OR least(b.prepared_at, b.created_at) - interval '5 minutes' <= c.started_at)
ORDER BY c.n, r.batch_key, r.recipient_no;

-- name: list_open_recipients(batch_key, recipient_count, limit)
-- Recipients of whom no call is known, by number.
SELECT n AS recipient
FROM generate_series(1, :recipient_count) AS n
WHERE NOT EXISTS (SELECT FROM outcomes AS o WHERE o.batch_key = :batch_key AND o.recipient_no = n)
ORDER BY n
LIMIT :limit;

-- name: list_waiting_recipients(batch_key, limit)
-- Recipients that wait for a retry here, by number.
SELECT recipient_no AS recipient FROM outcomes
WHERE batch_key = :batch_key AND state = 'pending_retry'
ORDER BY recipient_no
LIMIT :limit;

-- name: list_unmet_recipients(batch_key, met, limit)
-- Recipients of whom a call is known here whose conversation is not among the given ones.
SELECT DISTINCT f.recipient_no AS recipient
FROM facts AS f
WHERE f.batch_key = :batch_key
  AND NOT EXISTS (SELECT FROM unnest(:met::text[]) AS m (conversation_id) WHERE m.conversation_id = f.conversation_id)
  AND NOT EXISTS (SELECT FROM erased_recipients AS e WHERE e.batch_key = f.batch_key AND e.recipient_no = f.recipient_no)
ORDER BY 1
LIMIT :limit;

-- name: get_comparison(batch_key)^
-- What a comparison needs to know of the batch itself.
SELECT batch_key, batch_id, agent_id, recipient_count, is_registered,
       CASE WHEN is_registered THEN recipient_count - withdrawn_count END AS known_recipients, least(prepared_at, created_at) AS began_at
FROM batches
WHERE batch_key = :batch_key;

-- name: record_batch_state(batch_key, fence, status, total_recipients)!
-- The provider's present word on a batch, where it says one, and which state of ours it is going to be compared with;
-- nothing from a holder whose lease was lost.
WITH compared AS (
    UPDATE batch_schedules AS s
    SET compared_revision = coalesce((SELECT a.revision FROM batch_activity AS a WHERE a.batch_key = s.batch_key), 0)
    WHERE s.batch_key = :batch_key AND s.fence = :fence
    RETURNING s.batch_key
)
UPDATE batches AS b
SET status = coalesce(nullif(:status, ''), b.status), total_recipients = coalesce(:total_recipients, b.total_recipients)
FROM compared AS c
WHERE b.batch_key = c.batch_key
  AND (b.status, b.total_recipients)
      IS DISTINCT FROM (coalesce(nullif(:status, ''), b.status), coalesce(:total_recipients, b.total_recipients));

-- name: get_oldest_due(now)$
-- Since when the batch has been due whose comparison has waited for longest, of those that nobody is at; null: none is due.
SELECT due_at FROM batch_schedules
WHERE due_at <= :now AND due_at < 'infinity' AND leased_until <= :now
ORDER BY due_at
LIMIT 1;
