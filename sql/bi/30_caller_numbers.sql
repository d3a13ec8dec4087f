-- bi.caller_numbers: how often each caller number reaches somebody, from the counters. The interval is Wilson's, as in
-- service/outcomes/figures.py.
CREATE OR REPLACE VIEW bi_full.caller_numbers AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       c.value AS from_phone, c.attempts, c.connects,
       100::float8 * c.connects / c.attempts AS connect_rate_percent,
       100 * greatest(0, (w.middle - w.reach) / w.scale) AS connect_rate_low,
       100 * least(1, (w.middle + w.reach) / w.scale) AS connect_rate_high,
       NOT EXISTS (SELECT FROM uncounted_calls AS u WHERE u.batch_key = b.upload_id) AS is_counted,
       b.last_event_at, b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of
FROM bi_full.batches AS b
JOIN call_counts AS c ON c.batch_key = b.upload_id AND c.name = 'from_phone' AND c.value <> '' AND c.attempts > 0
CROSS JOIN LATERAL (
    SELECT s.share + s.z2 / (2 * c.attempts) AS middle,
           sqrt(s.z2 * (s.share * (1 - s.share) / c.attempts + s.z2 / (4 * c.attempts::float8 ^ 2))) AS reach,
           1 + s.z2 / c.attempts AS scale
    FROM (SELECT c.connects::float8 / c.attempts AS share, 1.959964::float8 ^ 2 AS z2) AS s
) AS w;

CREATE OR REPLACE VIEW bi.caller_numbers AS
SELECT c.upload_id, c.batch_id, c.agent_id, bi_mask_text(c.batch_name) AS batch_name, c.campaign_id, c.campaign_role,
       c.batch_created_at, bi_mask_phone(c.from_phone) AS from_phone, c.attempts, c.connects, c.connect_rate_percent,
       c.connect_rate_low, c.connect_rate_high, c.is_counted, c.last_event_at, c.verdict, c.verdict_since,
       c.last_reconciled_at, c.as_of
FROM bi_full.caller_numbers AS c;

COMMENT ON VIEW bi.caller_numbers IS 'Attempts by the number that they were made from: one row for each batch and number. For a number across batches, sum attempts and connects, and divide again.';
COMMENT ON COLUMN bi.caller_numbers.from_phone IS 'The number, masked: country and last three digits. Two numbers may look the same; each has its own row. bi_full has the whole number.';
COMMENT ON COLUMN bi.caller_numbers.attempts IS 'Attempts made from this number.';
COMMENT ON COLUMN bi.caller_numbers.connects IS 'Those of them that connected: completed attempts.';
COMMENT ON COLUMN bi.caller_numbers.connect_rate_percent IS 'Percent, unrounded: connects of attempts.';
COMMENT ON COLUMN bi.caller_numbers.connect_rate_low IS 'Percent: the lower end of its 95 percent confidence interval (Wilson).';
COMMENT ON COLUMN bi.caller_numbers.connect_rate_high IS 'Percent: the upper end of that interval.';
COMMENT ON COLUMN bi.caller_numbers.is_counted IS 'False while the service still counts the calls of a batch from before it counted them: the numbers are then too low.';
