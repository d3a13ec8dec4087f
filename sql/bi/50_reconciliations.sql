-- bi.reconciliations: what each comparison with the provider came to.
CREATE OR REPLACE VIEW bi_full.reconciliations AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       r.reconciliation_id, r.compared_at, r.last_compared_at, r.comparisons, r.verdict, r.reasons, r.differences,
       r.inconsistencies, r.calls_spent, r.healed AS healed_calls,
       r.reconciliation_id = (SELECT max(l.reconciliation_id) FROM reconciliations AS l WHERE l.batch_key = r.batch_key)
           AS is_latest,
       b.as_of
FROM bi_full.batches AS b
JOIN reconciliations AS r ON r.batch_key = b.upload_id;

SELECT bi_mask_view('reconciliations');

COMMENT ON VIEW bi.reconciliations IS 'The history of comparisons with the provider''s figures. One that found the same as the last is only counted with it.';
COMMENT ON COLUMN bi.reconciliations.reconciliation_id IS 'Rises with time; the key of this view.';
COMMENT ON COLUMN bi.reconciliations.compared_at IS 'When it was first found so.';
COMMENT ON COLUMN bi.reconciliations.last_compared_at IS 'When it was last found so.';
COMMENT ON COLUMN bi.reconciliations.comparisons IS 'How many comparisons in a row found this.';
COMMENT ON COLUMN bi.reconciliations.verdict IS 'What this comparison came to: open, settling, complete, drifted or unverified. The present one is in batches.';
COMMENT ON COLUMN bi.reconciliations.reasons IS 'Why, as a list of {code, figure, count, recipients}.';
COMMENT ON COLUMN bi.reconciliations.differences IS 'Figures on which the sides differ, as a list of {figure, ours, theirs, allowed, reason}.';
COMMENT ON COLUMN bi.reconciliations.inconsistencies IS 'Rules between the provider''s own figures that they break, as a list of {rule, told, expected}.';
COMMENT ON COLUMN bi.reconciliations.calls_spent IS 'API calls to the provider that it cost.';
COMMENT ON COLUMN bi.reconciliations.healed_calls IS 'Calls that were missing here and were brought in from their conversations.';
COMMENT ON COLUMN bi.reconciliations.is_latest IS 'It is the batch''s last line of history.';
