-- name: list_slice_names(batch_id, sampled)$
-- The call parameters that a batch's recipients have: the columns of its CSV or, if that is not known, the parameters of
-- its first recipients. The phone column is not one of them. Null for no batch.
SELECT CASE
    WHEN b.is_registered THEN array_remove(b.columns, 'customer_phone')
    ELSE (SELECT coalesce(array_agg(k.name ORDER BY k.name), '{}')
          FROM (SELECT DISTINCT jsonb_object_keys(r.parameters) AS name
                FROM recipients AS r
                WHERE r.batch_key = b.batch_key AND r.recipient_no <= :sampled AND r.withdrawn_at IS NULL) AS k)
END
FROM batches AS b
WHERE b.batch_id = :batch_id;

-- name: list_result_names(batch_id, names)
-- The results that recipients of a batch have.
SELECT t.name
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT name FROM result_totals WHERE batch_key = b.batch_key AND recipients > 0 ORDER BY name LIMIT :names
) AS t
WHERE b.batch_id = :batch_id;

-- name: begin_slice(milliseconds)^
-- Until the transaction ends: cancels what takes longer, and reads a batch by its key, however few batches there are.
SELECT set_config('statement_timeout', :milliseconds, true), set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true);

-- name: slice_batch(batch_id, name, is_result, values)
-- Recipients of a batch by state for each of the most frequent values of a call parameter, or of a result of the latest
-- attempt, and for all other values together. Reads the whole batch by its key: the cost grows with the batch. All values are
-- summed and never sorted, because there may be as many as recipients.
WITH sliced AS (
    SELECT CASE WHEN :is_result::boolean THEN f.results ELSE r.parameters END ->> :name AS value,
           coalesce(o.state, 'in_progress') AS state, coalesce(o.attempts, 0) AS attempts
    FROM recipients AS r
    LEFT JOIN outcomes AS o ON o.batch_key = r.batch_key AND o.recipient_no = r.recipient_no
    LEFT JOIN LATERAL (
        SELECT results FROM facts
        WHERE :is_result::boolean
          AND facts.batch_key = o.batch_key AND facts.recipient_no = o.recipient_no AND facts.arrival_id = o.arrival_id
        OFFSET 0  -- forces a look-up by key: the planner of Postgres 15 would read other batches too
    ) AS f ON true
    WHERE r.batch_key = (SELECT batch_key FROM batches WHERE batch_id = :batch_id) AND r.withdrawn_at IS NULL
), counted AS MATERIALIZED (
    SELECT CASE WHEN length(value) > 80 THEN '(long text)' ELSE value END AS value, count(*) AS recipients,
           sum(attempts) AS attempts, count(*) FILTER (WHERE attempts > 0) AS attempted,
           count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE state = 'busy') AS busy,
           count(*) FILTER (WHERE state = 'no_answer') AS no_answer,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'socket_failure') AS socket_failure,
           count(*) FILTER (WHERE state = 'telephony_failed') AS telephony_failed,
           count(*) FILTER (WHERE state = 'unreachable') AS unreachable,
           count(*) FILTER (WHERE state = 'pending_retry') AS pending_retry,
           count(*) FILTER (WHERE state = 'in_progress') AS in_progress
    FROM sliced
    GROUP BY 1
), shown AS (
    SELECT * FROM counted ORDER BY recipients DESC, value LIMIT :values
), summed AS (
    SELECT k.is_all, count(*) AS distinct_values,
           sum(recipients)::bigint AS recipients, sum(attempts)::bigint AS attempts,
           sum(attempted)::bigint AS attempted, sum(completed)::bigint AS completed, sum(busy)::bigint AS busy,
           sum(no_answer)::bigint AS no_answer, sum(failed)::bigint AS failed,
           sum(socket_failure)::bigint AS socket_failure, sum(telephony_failed)::bigint AS telephony_failed,
           sum(unreachable)::bigint AS unreachable, sum(pending_retry)::bigint AS pending_retry,
           sum(in_progress)::bigint AS in_progress
    FROM (SELECT true AS is_all, * FROM counted UNION ALL SELECT false, * FROM shown) AS k
    GROUP BY k.is_all
)
SELECT value, false AS is_other, 1 AS distinct_values,
       recipients, attempts, attempted, completed, busy, no_answer, failed, socket_failure, telephony_failed,
       unreachable, pending_retry, in_progress
FROM shown
UNION ALL
SELECT NULL, true, a.distinct_values - s.distinct_values,
       a.recipients - s.recipients, a.attempts - s.attempts, a.attempted - s.attempted,
       a.completed - s.completed, a.busy - s.busy, a.no_answer - s.no_answer, a.failed - s.failed,
       a.socket_failure - s.socket_failure, a.telephony_failed - s.telephony_failed,
       a.unreachable - s.unreachable, a.pending_retry - s.pending_retry, a.in_progress - s.in_progress
FROM summed AS a
JOIN summed AS s ON a.is_all AND NOT s.is_all AND a.distinct_values > s.distinct_values
ORDER BY is_other, recipients DESC, value;
