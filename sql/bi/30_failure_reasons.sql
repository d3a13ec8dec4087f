-- bi.failure_reasons: why attempts failed, from the counters. bi counts reasons that name people together.
CREATE OR REPLACE VIEW bi_full.failure_reasons AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       c.value AS reason, c.attempts,
       NOT EXISTS (SELECT FROM uncounted_calls AS u WHERE u.batch_key = b.upload_id) AS is_counted,
       b.last_event_at, b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of
FROM bi_full.batches AS b
JOIN call_counts AS c ON c.batch_key = b.upload_id AND c.name = 'failure_reason' AND c.value <> '' AND c.attempts > 0;

CREATE OR REPLACE VIEW bi.failure_reasons AS
SELECT f.upload_id, f.batch_id, f.agent_id, bi_mask_text(f.batch_name) AS batch_name, f.campaign_id, f.campaign_role,
       f.batch_created_at, bi_mask_text(f.reason) AS reason, sum(f.attempts)::bigint AS attempts, f.is_counted,
       f.last_event_at, f.verdict, f.verdict_since, f.last_reconciled_at, f.as_of
FROM bi_full.failure_reasons AS f
GROUP BY f.upload_id, f.batch_id, f.agent_id, f.batch_name, f.campaign_id, f.campaign_role, f.batch_created_at, 8,
         f.is_counted, f.last_event_at, f.verdict, f.verdict_since, f.last_reconciled_at, f.as_of;

COMMENT ON VIEW bi.failure_reasons IS 'Attempts by the reason of their failure: one row for each batch and reason.';
COMMENT ON COLUMN bi.failure_reasons.reason IS 'The provider''s words; numbers like phones are masked. (long text) for more than 80 characters.';
COMMENT ON COLUMN bi.failure_reasons.attempts IS 'Attempts that failed for this reason.';
COMMENT ON COLUMN bi.failure_reasons.is_counted IS 'As in caller_numbers.';
