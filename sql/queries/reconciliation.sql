-- name: claim_provider_call(account, reserved, probe_seconds, now)^
-- Claims one call to the provider, or says why not and when to ask again.
SELECT refusal, wait_seconds FROM claim_provider_call(:account, :reserved, :probe_seconds, :now);

-- name: record_provider_answer(account, failed, limit, remaining, reset_seconds, block_seconds, backoff_seconds, now)$
-- Records what an answer says about the budget.
SELECT record_provider_answer(
    :account, :failed, :limit, :remaining, :reset_seconds, :block_seconds, :backoff_seconds, :now);

-- name: get_provider_budget(account)^
-- The budget of an account at the provider as it is; nothing before its first call.
SELECT calls_limit, remaining, nullif(window_ends_at, '-infinity') AS window_ends_at, is_window_told,
       nullif(blocked_until, '-infinity') AS blocked_until, failures, failing_since, calls_made
FROM provider_budgets
WHERE account = :account;

-- name: schedule_batches(interval_seconds, now)$
-- Gives every batch that the provider knows a schedule, and makes batches due that have changed since they were last
-- compared, even deferred ones, but not before a failed comparison may be tried again; returns how many. Reads one small
-- row for each batch. A time further ahead than any that is ever set comes from a clock that has been set back since: that
-- batch is due now.
WITH added AS (
    INSERT INTO batch_schedules (batch_key, due_at)
    SELECT b.batch_key, :now
    FROM batches AS b
    WHERE b.batch_id IS NOT NULL AND NOT EXISTS (SELECT FROM batch_schedules AS s WHERE s.batch_key = b.batch_key)
    ON CONFLICT DO NOTHING
    RETURNING 1
), corrected AS (
    UPDATE batch_schedules AS s
    SET due_at = :now, last_reconciled_at = least(s.last_reconciled_at, :now), retry_at = NULL
    WHERE (s.due_at < 'infinity' AND s.due_at > :now + 2 * greatest(interval '1 hour', make_interval(secs => :interval_seconds)))
       OR s.last_reconciled_at > :now + interval '1 hour'
    RETURNING s.batch_key
), woken AS (
    UPDATE batch_schedules AS s
    SET due_at = greatest(:now, s.last_reconciled_at + make_interval(secs => :interval_seconds), s.retry_at)
    FROM batch_activity AS a
    WHERE a.batch_key = s.batch_key
      AND (a.revision <> s.compared_revision OR s.compared_revision IS NULL AND a.last_event_at > s.last_reconciled_at)
      AND s.due_at > greatest(:now, s.last_reconciled_at + make_interval(secs => :interval_seconds), s.retry_at)
      AND NOT EXISTS (SELECT FROM corrected AS m WHERE m.batch_key = s.batch_key)
    RETURNING 1
)
SELECT (SELECT count(*) FROM added) + (SELECT count(*) FROM corrected) + (SELECT count(*) FROM woken);

-- name: claim_due_batches(holder, limit, lease_seconds, now)
-- Leases batches that are due to the holder.
SELECT s.batch_key, s.fence, s.verdict, s.verdict_since, s.last_reconciled_at, s.healing, b.batch_id, b.agent_id
FROM claim_due_batches(:holder, :limit, :lease_seconds, :now) AS s
JOIN batches AS b ON b.batch_key = s.batch_key;

-- name: claim_batch(batch_id, holder, lease_seconds, now)^
-- Leases one batch on demand, due or not; returns nothing while another worker has it or if it is unknown.
INSERT INTO batch_schedules AS s (batch_key, due_at, holder, leased_until, fence)
SELECT b.batch_key, :now, :holder, :now::timestamptz + make_interval(secs => :lease_seconds), 1
FROM batches AS b
WHERE b.batch_id = :batch_id
ON CONFLICT (batch_key) DO UPDATE
SET holder = excluded.holder, leased_until = excluded.leased_until, fence = s.fence + 1
WHERE s.leased_until <= :now OR s.leased_until > :now + 2 * make_interval(secs => :lease_seconds)
RETURNING s.batch_key, s.fence, s.verdict, s.verdict_since, s.last_reconciled_at, s.healing;

-- name: get_healing(batch_id)^
-- What a batch's worker is doing, and the last verdict.
SELECT shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict, s.last_reconciled_at, s.healing,
       s.details_expected_at, (SELECT row_to_json(p) FROM find_spilled() AS p) AS spilled,
       coalesce(s.leased_until > clock_timestamp(), false) AS is_leased,
       (SELECT r.reasons FROM reconciliations AS r WHERE r.batch_key = b.batch_key
        ORDER BY r.reconciliation_id DESC LIMIT 1) AS reasons,
       (SELECT count(*)::integer FROM outstanding_details AS d WHERE d.batch_key = b.batch_key) AS details_outstanding
FROM batches AS b
LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
WHERE b.batch_id = :batch_id;

-- name: save_healing(batch_key, fence, healing, leased_until)$
-- Records the progress of the walk, and extends the lease; returns null when the lease was lost.
UPDATE batch_schedules AS s
SET healing = :healing, leased_until = greatest(s.leased_until, :leased_until)
WHERE s.batch_key = :batch_key AND s.fence = :fence
RETURNING s.batch_key;

-- name: expect_details(batch_key, fence, expected_at)$
-- Records when the outstanding details of a batch are expected to be there; returns null when the lease was lost.
UPDATE batch_schedules AS s
SET details_expected_at = :expected_at
WHERE s.batch_key = :batch_key AND s.fence = :fence
RETURNING s.batch_key;

-- name: renew_batch_lease(batch_key, fence, leased_until)$
-- Extends the lease for its holder; returns null when it was lost or released.
UPDATE batch_schedules AS s
SET leased_until = greatest(s.leased_until, :leased_until)
WHERE s.batch_key = :batch_key AND s.fence = :fence AND s.leased_until > '-infinity'
RETURNING s.batch_key;

-- name: release_batch(batch_key, fence, due_at, retry_at)!
-- Releases a lease after a failed comparison, to be tried again when it is due; from retry_at on also as soon as the batch
-- changes again.
UPDATE batch_schedules AS s
SET leased_until = '-infinity', holder = NULL, due_at = :due_at, retry_at = :retry_at,
    compared_revision = coalesce((SELECT a.revision FROM batch_activity AS a WHERE a.batch_key = s.batch_key), 0)
WHERE s.batch_key = :batch_key AND s.fence = :fence;

-- name: record_snapshot(batch_key, fence, at, figures)$
-- Stores the provider's figures; returns since when they have been the same, or null when the lease was lost.
SELECT record_snapshot(:batch_key, :fence, :at, :figures);

-- name: get_snapshot_before(batch_key, at)^
-- The provider's figures as of a given time.
SELECT * FROM provider_metrics WHERE batch_key = :batch_key AND taken_at <= :at ORDER BY taken_at DESC LIMIT 1;

-- name: get_snapshot_after(batch_key, at)^
-- The first of the provider's figures that were seen at a given time or later; the first of all where it is null.
SELECT m.*
FROM ((SELECT * FROM provider_metrics WHERE batch_key = :batch_key AND taken_at <= :at ORDER BY taken_at DESC LIMIT 1)
      UNION ALL
      (SELECT * FROM provider_metrics
       WHERE batch_key = :batch_key AND taken_at > coalesce(:at, '-infinity'::timestamptz) ORDER BY taken_at LIMIT 1)) AS m
WHERE m.last_seen_at >= coalesce(:at, '-infinity'::timestamptz)
ORDER BY m.taken_at
LIMIT 1;

-- name: record_reconciliation(batch_key, fence, at, verdict, reasons, differences, inconsistencies, calls_spent, healed, due_at, verdict_text)$
-- Ends a worker's turn at a batch; false when its lease was lost, and then nothing is written.
SELECT record_reconciliation(
    :batch_key, :fence, :at, :verdict, :reasons, :differences, :inconsistencies, :calls_spent, :healed, :due_at,
    :verdict_text);

-- name: record_healing(batch_key, fence, at, verdict, reasons, differences, inconsistencies, calls_spent, due_at, verdict_text, leased_until)$
-- Records a comparison of a batch that is being healed, and keeps the lease until a time; false when it was lost.
SELECT record_reconciliation(
    :batch_key, :fence, :at, :verdict, :reasons, :differences, :inconsistencies, :calls_spent, 0, :due_at, :verdict_text,
    :leased_until);

-- name: list_reconciliations(batch_id, before, limit)
-- The results of a batch's comparisons, newest first, before a given one.
SELECT r.reconciliation_id, r.compared_at, r.last_compared_at, r.comparisons, r.verdict, r.reasons, r.differences,
       r.inconsistencies, r.calls_spent, r.healed, r.details_outstanding, r.details_expected_at
FROM reconciliations AS r
WHERE r.batch_key = (SELECT b.batch_key FROM batches AS b WHERE b.batch_id = :batch_id)
  AND r.reconciliation_id < :before
ORDER BY r.reconciliation_id DESC
LIMIT :limit;

-- name: has_event(event_id, occurred_at)$
-- Whether an event is in the ledger and has been placed. A waiting one may be ingested again, which tries it again.
SELECT EXISTS (
    SELECT FROM events AS e
    WHERE e.week = ANY (event_weeks(:occurred_at)) AND e.event_id = :event_id
      AND NOT EXISTS (SELECT FROM unattributed AS u WHERE u.arrival_id = e.arrival_id)
      AND NOT EXISTS (SELECT FROM other_events AS o WHERE o.arrival_id = e.arrival_id));

-- name: find_called_recipients(agent_id, phone, conversation_id, started_at, called_at, until, is_completed)
-- For each call (its place n in the arrays, from 1) its candidates, by the rule of find_places() for a call without
-- parameters: recipients of the agent's batches with its phone, and batches whose recipients are unknown (recipient_no
-- null). is_same: the candidate has facts of this very call; then latest_status is that of the latest, is_certain says that
-- it is final or a webhook, call_number and known_until are their attempt number and time, known_results and known_reason
-- what is known of results and the failure reason. is_named: it has a call of this
-- conversation. is_exact: its batch existed, whatever the clocks. is_due: when the call began, the batch existed and was not
-- finished, and the recipient was neither final nor refutes the call by its references. is_waiting: an event of the call
-- already waits, perhaps with another phone. Text that is not a number contradicts none.
SELECT c.n, r.batch_key, r.recipient_no, k.is_same IS NOT NULL AS is_same, k.latest_status,
       coalesce(k.is_certain, false) AS is_certain, k.call_number, k.known_until, k.known_results, k.known_reason,
       coalesce(c.called_at <@ p.exact, true) AS is_exact,
       EXISTS (SELECT FROM facts AS f
               WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no
                 AND f.conversation_id = r.conversation_id) AS is_named,
       coalesce(c.called_at <@ p.span, true) AND r.is_free
       AND (r.recipient_no IS NULL OR NOT EXISTS (
           SELECT FROM facts AS f
           WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no AND f.is_final
             AND ends_recipient(f.source, f.status, f.attempt_number)
             AND (c.called_at IS NULL
                  OR coalesce(f.started_at, f.ended_at, f.occurred_at, '-infinity') + interval '2 s' < c.called_at))
           AND NOT is_refuted(r.batch_key, r.recipient_no, c.called_at, c.is_completed, NULL)) AS is_due,
       EXISTS (
           SELECT FROM (SELECT * FROM unreferenced_events
                        WHERE unreferenced_events.conversation_id = c.conversation_id OFFSET 0) AS u
           WHERE u.agent_id = :agent_id
             AND (u.phone = c.phone OR u.phone ~ '^[+][1-9][0-9]{6,14}$')
             AND is_same_call(c.started_at, c.called_at, c.until, NULL, NULL,
                              u.started_at, u.called_at, u.until, NULL, NULL)
             AND EXISTS (SELECT FROM unattributed AS w WHERE w.arrival_id = u.arrival_id)) AS is_waiting
FROM unnest(:phone::text[], :conversation_id::text[], :started_at::timestamptz[], :called_at::timestamptz[],
            :until::timestamptz[], :is_completed::boolean[])
    WITH ORDINALITY AS c (phone, conversation_id, started_at, called_at, until, is_completed, n)
CROSS JOIN LATERAL (
    SELECT batch_key, recipient_no, c.conversation_id, true AS is_free
    FROM recipients WHERE recipients.phone = c.phone AND recipients.withdrawn_at IS NULL
    UNION ALL
    SELECT e.batch_key, e.recipient_no, hash_call(c.conversation_id), true
    FROM erased_recipients AS e
    JOIN recipients AS k ON k.batch_key = e.batch_key AND k.recipient_no = e.recipient_no AND k.withdrawn_at IS NULL
    WHERE e.phone_hash = hash_person('phone', c.phone)
    UNION ALL
    SELECT b.batch_key, NULL, NULL, coalesce(b.total_recipients > b.recipient_count - b.withdrawn_count, true)
    FROM batches AS b
    WHERE b.agent_id = :agent_id AND NOT b.is_registered AND c.phone IS NOT NULL
      AND coalesce(b.closed_at, 'infinity'::timestamptz) >= c.called_at - interval '5 minutes'
      AND NOT EXISTS (SELECT FROM recipients AS k
                      WHERE k.phone = c.phone AND k.batch_key = b.batch_key AND k.withdrawn_at IS NULL)
      AND NOT EXISTS (SELECT FROM erased_recipients AS e
                      WHERE e.phone_hash = hash_person('phone', c.phone) AND e.batch_key = b.batch_key)
    UNION ALL
    SELECT DISTINCT x.batch_key, x.recipient_no, c.conversation_id, false
    FROM reference_contradictions AS x
    WHERE x.agent_id = :agent_id AND x.phone = c.phone
    OFFSET 0
) AS r
JOIN batches AS b ON b.batch_key = r.batch_key
CROSS JOIN LATERAL batch_span(b) AS p
LEFT JOIN LATERAL (
    SELECT true AS is_same,
           (array_agg(f.status ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC))[1] AS latest_status,
           (array_agg(f.is_final OR f.source = 'webhook' ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC))[1] AS is_certain,
           max(f.attempt_number) AS call_number, max(f.occurred_at) AS known_until,
           (array_agg(f.results ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC, f.results DESC)
               FILTER (WHERE knows_results(f.results)))[1] AS known_results,
           (array_agg(f.failure_reason ORDER BY f.occurred_at DESC NULLS LAST, f.source DESC, f.failure_reason)
               FILTER (WHERE f.failure_reason IS NOT NULL))[1] AS known_reason
    FROM facts AS f
    WHERE f.batch_key = r.batch_key AND f.recipient_no = r.recipient_no AND f.conversation_id = r.conversation_id
      AND coalesce(is_same_call(
              c.started_at, c.called_at, c.until, NULL, NULL,
              f.started_at, coalesce(f.started_at, f.ended_at, f.occurred_at),
              greatest(f.started_at, f.ended_at, f.occurred_at), NULL, NULL), true)
    HAVING count(*) > 0
) AS k ON true
WHERE b.agent_id = :agent_id AND b.upload_state IN ('uploading', 'uploaded', 'unknown')
  AND NOT EXISTS (  -- a call outside batches
      SELECT FROM find_rulings(:agent_id, c.conversation_id, c.started_at, c.called_at, c.until, NULL, NULL))
  AND NOT EXISTS (  -- a call that is known already, by another phone
      SELECT FROM unreferenced_events AS u
      JOIN facts AS f ON f.arrival_id = u.arrival_id
      WHERE u.conversation_id = c.conversation_id AND u.agent_id = :agent_id AND u.phone <> c.phone
        AND is_same_call(c.started_at, c.called_at, c.until, NULL, NULL,
                         u.started_at, u.called_at, u.until, NULL, NULL))
ORDER BY c.n, r.batch_key, r.recipient_no;

-- name: list_outstanding_details(batch_key, now, limit)
-- Calls of a batch whose details are due, completed ones first: each with its fact from the list, and where it belongs.
SELECT d.arrival_id, d.reads, d.is_completed, f.event_id, f.conversation_id, f.attempt_number, f.status, f.is_final,
       f.occurred_at, f.started_at, f.ended_at, f.duration_seconds, u.agent_id, u.phone
FROM (SELECT * FROM outstanding_details
      WHERE outstanding_details.batch_key = :batch_key AND outstanding_details.due_at <= :now
      ORDER BY is_completed DESC, arrival_id
      LIMIT :limit) AS d
CROSS JOIN LATERAL (SELECT * FROM facts WHERE facts.arrival_id = d.arrival_id OFFSET 0) AS f
CROSS JOIN LATERAL (SELECT * FROM unreferenced_events AS e WHERE e.arrival_id = d.arrival_id OFFSET 0) AS u
ORDER BY d.is_completed DESC, d.arrival_id;

-- name: count_outstanding_details(batch_key, now)^
-- How many details of a batch are outstanding, how many of them are due, and when the next of the others is.
SELECT count(*)::integer AS outstanding, (count(*) FILTER (WHERE d.due_at <= :now))::integer AS due,
       min(d.due_at) FILTER (WHERE d.due_at > :now) AS next_due_at, max(d.due_at) FILTER (WHERE d.due_at > :now) AS last_due_at
FROM outstanding_details AS d
WHERE d.batch_key = :batch_key;

-- name: defer_details(arrival_id, due_at)!
-- Reads the details of a call once more, not before the given time.
UPDATE outstanding_details SET reads = reads + 1, due_at = :due_at WHERE arrival_id = :arrival_id;

-- name: finish_details(arrival_id)!
-- The provider has no more details of the call.
DELETE FROM outstanding_details WHERE arrival_id = :arrival_id;

-- name: list_open_recipients(batch_key, recipient_count, limit)
-- Recipients without a known call, by number.
SELECT n AS recipient
FROM generate_series(1, :recipient_count) AS n
WHERE NOT EXISTS (SELECT FROM outcomes AS o
                  WHERE o.batch_key = :batch_key AND o.recipient_no = n AND o.state <> 'in_progress')
ORDER BY n
LIMIT :limit;

-- name: list_waiting_recipients(batch_key, limit)
-- Recipients that wait for a retry here, by number.
SELECT recipient_no AS recipient FROM outcomes
WHERE batch_key = :batch_key AND state = 'pending_retry'
ORDER BY recipient_no
LIMIT :limit;

-- name: count_expected_retries(batch_key, after)$
-- The number of recipients that wait for a retry which is due after the given time.
SELECT coalesce(sum(recipients), 0)::bigint FROM retry_counts
WHERE batch_key = :batch_key AND is_open AND due_at > :after AND due_at < 'infinity';

-- name: list_stuck_recipients(batch_key, after, limit)
-- Recipients without a final outcome, by number, except those that wait for a retry which is due after the given time.
SELECT r.recipient_no AS recipient
FROM recipients AS r
LEFT JOIN outcomes AS o ON o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no
LEFT JOIN facts AS f ON f.batch_key = o.batch_key AND f.recipient_no = o.recipient_no AND f.arrival_id = o.arrival_id
WHERE r.batch_key = :batch_key AND r.withdrawn_at IS NULL
  AND (coalesce(o.state, 'in_progress') = 'in_progress'
       OR o.state = 'pending_retry' AND coalesce(f.next_retry_at <= :after, true))
ORDER BY r.recipient_no
LIMIT :limit;

-- name: list_unmet_recipients(batch_key, met, limit)
-- Recipients with a known call whose conversation is not among the given ones.
SELECT DISTINCT f.recipient_no AS recipient
FROM facts AS f
WHERE f.batch_key = :batch_key
  AND NOT EXISTS (SELECT FROM unnest(:met::text[]) AS m (conversation_id) WHERE m.conversation_id = f.conversation_id)
  AND NOT EXISTS (SELECT FROM erased_recipients AS e WHERE e.batch_key = f.batch_key AND e.recipient_no = f.recipient_no)
ORDER BY 1
LIMIT :limit;

-- name: get_comparison(batch_key)^
-- What a comparison needs to know about the batch itself.
SELECT batch_key, batch_id, agent_id, recipient_count, is_registered,
       CASE WHEN is_registered THEN recipient_count - withdrawn_count END AS known_recipients, least(prepared_at, plausible_time(created_at)) AS began_at,
       closed_at,
       (SELECT a.last_webhook_at FROM batch_activity AS a WHERE a.batch_key = batches.batch_key) AS last_webhook_at
FROM batches
WHERE batch_key = :batch_key;

-- name: record_batch_state(batch_key, fence, status, total_recipients)!
-- Records the provider's present status of a batch, if it gives one, and which state of ours it will be compared with;
-- records nothing for a holder whose lease was lost.
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
-- Since when the longest-waiting comparison has been due, among batches without a worker; null: none is due.
SELECT due_at FROM batch_schedules
WHERE due_at <= :now AND due_at < 'infinity' AND leased_until <= :now
ORDER BY due_at
LIMIT 1;
