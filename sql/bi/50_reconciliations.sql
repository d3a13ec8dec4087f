-- bi.reconciliations: the result of each comparison with the provider.
CREATE OR REPLACE VIEW bi_full.reconciliations AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       r.reconciliation_id, r.compared_at, r.last_compared_at, r.comparisons, r.verdict, r.reasons, r.differences,
       r.inconsistencies, r.calls_spent, r.healed AS healed_calls,
       r.reconciliation_id = (SELECT max(l.reconciliation_id) FROM reconciliations AS l WHERE l.batch_key = r.batch_key)
           AS is_latest,
       b.as_of, r.details_outstanding, r.details_expected_at
FROM bi_full.batches AS b
JOIN reconciliations AS r ON r.batch_key = b.upload_id;

SELECT bi_mask_view('reconciliations');

COMMENT ON VIEW bi.reconciliations IS 'The history of comparisons with the provider''s figures. A comparison with the same result as the last one only adds to its count.';
COMMENT ON COLUMN bi.reconciliations.reconciliation_id IS 'Rises with time; the key of this view.';
COMMENT ON COLUMN bi.reconciliations.compared_at IS 'When this result was first found.';
COMMENT ON COLUMN bi.reconciliations.last_compared_at IS 'When this result was last found.';
COMMENT ON COLUMN bi.reconciliations.comparisons IS 'How many comparisons in a row had this result.';
COMMENT ON COLUMN bi.reconciliations.verdict IS 'The verdict of this comparison: open, settling, complete, drifted or unverified. The present one is in batches.';
COMMENT ON COLUMN bi.reconciliations.reasons IS 'The reasons, as a list of {code, text, figure, count, recipients, done, total, expected_at}.';
COMMENT ON COLUMN bi.reconciliations.differences IS 'Figures on which the two sides differ, as a list of {figure, ours, theirs, allowed, reason}.';
COMMENT ON COLUMN bi.reconciliations.inconsistencies IS 'Rules that the provider''s own figures break, as a list of {rule, reported, expected}.';
COMMENT ON COLUMN bi.reconciliations.calls_spent IS 'API calls to the provider that the comparison used.';
COMMENT ON COLUMN bi.reconciliations.healed_calls IS 'Calls that were missing here and were recovered from their conversations.';
COMMENT ON COLUMN bi.reconciliations.is_latest IS 'Whether this is the batch''s last line of history.';
COMMENT ON COLUMN bi.reconciliations.details_outstanding IS 'Healed calls that are counted, and whose results and failure reasons were still to be fetched at the last of these comparisons; null if unknown.';
COMMENT ON COLUMN bi.reconciliations.details_expected_at IS 'When those were expected; null if none was outstanding.';
