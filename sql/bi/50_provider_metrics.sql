-- bi.provider_metrics: the provider's own figures over time.
CREATE OR REPLACE VIEW bi_full.provider_metrics AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       m.taken_at, m.last_seen_at, m.total_recipients, m.total_processed, m.in_progress_count, m.pending_retry_count,
       m.completed_count, m.busy_count, m.no_answer_count, m.failed_count, m.socket_failure_count, m.unreachable_count,
       m.success_count, m.success_rate, m.avg_duration_seconds,
       m.taken_at = (SELECT max(l.taken_at) FROM provider_metrics AS l WHERE l.batch_key = m.batch_key) AS is_latest,
       b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of
FROM bi_full.batches AS b
JOIN provider_metrics AS m ON m.batch_key = b.upload_id;

SELECT bi_mask_view('provider_metrics');

COMMENT ON VIEW bi.provider_metrics IS 'The provider''s figures of each batch as a time series, one row for each change. A figure that the provider did not report is null.';
COMMENT ON COLUMN bi.provider_metrics.taken_at IS 'When these figures were first seen; with upload_id the key of this view.';
COMMENT ON COLUMN bi.provider_metrics.last_seen_at IS 'When these figures were last seen.';
COMMENT ON COLUMN bi.provider_metrics.total_recipients IS 'The provider''s figure: all recipients.';
COMMENT ON COLUMN bi.provider_metrics.total_processed IS 'The provider''s figure: recipients with a final status.';
COMMENT ON COLUMN bi.provider_metrics.in_progress_count IS 'The provider''s figure: recipients in progress.';
COMMENT ON COLUMN bi.provider_metrics.pending_retry_count IS 'The provider''s figure: recipients waiting for a retry.';
COMMENT ON COLUMN bi.provider_metrics.completed_count IS 'The provider''s figure: recipients completed.';
COMMENT ON COLUMN bi.provider_metrics.busy_count IS 'The provider''s figure: recipients busy.';
COMMENT ON COLUMN bi.provider_metrics.no_answer_count IS 'The provider''s figure: recipients that did not answer.';
COMMENT ON COLUMN bi.provider_metrics.failed_count IS 'The provider''s figure: recipients failed, including telephony_failed.';
COMMENT ON COLUMN bi.provider_metrics.socket_failure_count IS 'The provider''s figure: recipients whose voice stream did not start.';
COMMENT ON COLUMN bi.provider_metrics.unreachable_count IS 'The provider''s figure: recipients that could not be reached.';
COMMENT ON COLUMN bi.provider_metrics.success_count IS 'The provider''s figure: recipients that it counts as a success.';
COMMENT ON COLUMN bi.provider_metrics.success_rate IS 'The provider''s figure, percent: success_count of total_recipients.';
COMMENT ON COLUMN bi.provider_metrics.avg_duration_seconds IS 'The provider''s figure, seconds: average duration of the calls.';
COMMENT ON COLUMN bi.provider_metrics.is_latest IS 'Whether these are the latest figures that we have read.';
