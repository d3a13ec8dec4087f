-- bi.hourly_attempts: when people are called and when they answer, from the counters.
CREATE OR REPLACE VIEW bi_full.hourly_attempts AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       plausible_time(c.slot) AS slot_at,
       date_trunc('hour', plausible_time(c.slot), 'UTC') AS hour_at,
       c.status, c.attempts, CASE WHEN c.status = 'completed' THEN c.attempts ELSE 0 END AS connects,
       b.last_event_at, b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of
FROM bi_full.batches AS b
JOIN attempt_counts AS c ON c.batch_key = b.upload_id AND c.attempts > 0;

SELECT bi_mask_view('hourly_attempts');

COMMENT ON VIEW bi.hourly_attempts IS 'Attempts by the quarter of an hour in which they began, and by status. Connect rate of an hour: 100 * sum(connects) / sum(attempts).';
COMMENT ON COLUMN bi.hourly_attempts.slot_at IS 'Beginning of the quarter of an hour in which the attempts began; AT TIME ZONE gives local time in any zone. Null where the provider gave no time.';
COMMENT ON COLUMN bi.hourly_attempts.hour_at IS 'Beginning of its hour in UTC. In zones with an offset of half an hour, use slot_at.';
COMMENT ON COLUMN bi.hourly_attempts.status IS 'How the attempts ended.';
COMMENT ON COLUMN bi.hourly_attempts.attempts IS 'Attempts, each counted once.';
COMMENT ON COLUMN bi.hourly_attempts.connects IS 'Those of them that connected: attempts where status is completed, else 0.';
