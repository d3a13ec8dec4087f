-- bi.batches: the batches. Uploads that were never sent are left out.
CREATE OR REPLACE VIEW bi_full.batches AS
SELECT b.batch_key AS upload_id, b.batch_id, b.agent_id, b.name AS batch_name, b.campaign_key AS campaign_id,
       b.campaign_role, coalesce(plausible_time(b.created_at), b.prepared_at) AS batch_created_at, b.status AS provider_status,
       b.upload_state, b.origin, b.is_registered, b.columns AS parameter_columns,
       coalesce(b.total_recipients, b.recipient_count - b.withdrawn_count) AS total_recipients,
       b.recipient_count - b.withdrawn_count AS stored_recipients, b.withdrawn_count AS withdrawn_recipients,
       b.sent_at, a.last_event_at, shown_verdict(s.verdict, EXISTS (SELECT FROM find_spilled())) AS verdict, s.verdict_since, s.last_reconciled_at,
       statement_timestamp() AS as_of,
       shown_verdict_text(
           s.verdict, coalesce(s.verdict_text, CASE WHEN s.verdict IS NULL THEN 'Not compared with the provider yet.' END),
           EXISTS (SELECT FROM find_spilled())) COLLATE "default" AS verdict_text
FROM batches AS b
LEFT JOIN batch_schedules AS s ON s.batch_key = b.batch_key
LEFT JOIN batch_activity AS a ON a.batch_key = b.batch_key
WHERE b.batch_id IS NOT NULL OR b.upload_state IN ('held', 'uploading', 'unknown');

SELECT bi_mask_view('batches');

COMMENT ON VIEW bi.batches IS 'One row for each batch that the provider has or may have, or that waits for its test batch.';
COMMENT ON COLUMN bi.batches.provider_status IS 'The provider''s status of the batch, unchanged, such as pending.';
COMMENT ON COLUMN bi.batches.upload_state IS 'uploaded: the provider has it. held: it waits for the promotion of its test batch. uploading: being sent. unknown: sent, the answer was lost, it may be dialling.';
COMMENT ON COLUMN bi.batches.origin IS 'upload: uploaded through this service. provider: made elsewhere, such as in the provider''s dashboard.';
COMMENT ON COLUMN bi.batches.is_registered IS 'False: its CSV is not known here, so recipients appear with their first call.';
COMMENT ON COLUMN bi.batches.parameter_columns IS 'The columns of its CSV, in order.';
COMMENT ON COLUMN bi.batches.total_recipients IS 'Recipients: the provider''s figure, else those stored here. The denominator of success_rate.';
COMMENT ON COLUMN bi.batches.stored_recipients IS 'Recipients known here one by one, the number of rows in recipient_outcomes.';
COMMENT ON COLUMN bi.batches.withdrawn_recipients IS 'Recipients created for calls that turned out to belong to another batch, or erased or suppressed before the batch was sent; they are not counted and are in no view.';
COMMENT ON COLUMN bi.batches.verdict_text IS 'The verdict and its reasons in a sentence, as of the last comparison; null if that was before this was stored.';
COMMENT ON COLUMN bi.batches.sent_at IS 'When sending it to the provider began; null for a batch made elsewhere.';
