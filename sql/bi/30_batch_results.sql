-- bi.batch_results: the number of recipients with each result, from the counters. bi_full has every value exactly; bi counts
-- values that look like people's data together.
CREATE OR REPLACE VIEW bi_full.batch_results AS
SELECT b.upload_id, b.batch_id, b.agent_id, b.batch_name, b.campaign_id, b.campaign_role, b.batch_created_at,
       r.name, r.value, r.recipients, t.recipients AS recipients_with_name,
       100::float8 * r.recipients / t.recipients AS share_percent,
       b.last_event_at, b.verdict, b.verdict_since, b.last_reconciled_at, b.as_of
FROM bi_full.batches AS b
JOIN result_counts AS r ON r.batch_key = b.upload_id AND r.recipients > 0
JOIN result_totals AS t ON t.batch_key = r.batch_key AND t.name = r.name AND t.recipients > 0;

CREATE OR REPLACE VIEW bi.batch_results AS
SELECT m.upload_id, m.batch_id, m.agent_id, m.batch_name, m.campaign_id, m.campaign_role, m.batch_created_at,
       m.name, m.value, m.recipients, m.recipients_with_name,
       100::float8 * m.recipients / m.recipients_with_name AS share_percent,
       m.last_event_at, m.verdict, m.verdict_since, m.last_reconciled_at, m.as_of
FROM (
    SELECT r.upload_id, r.batch_id, r.agent_id, bi_mask_text(r.batch_name) AS batch_name, r.campaign_id, r.campaign_role,
           r.batch_created_at, bi_mask_text(r.name) AS name,
           CASE
               WHEN bi_hides_result(
                   r.name,
                   ARRAY(SELECT f.name FROM bi_fields AS f WHERE f.kind = 'result' AND f.is_shown),
                   ARRAY(SELECT replace(replace(replace(replace(f.name, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
                         FROM bi_fields AS f WHERE f.kind = 'result' AND NOT f.is_shown),
                   r.agent_id = ANY (ARRAY(SELECT c.agent_id FROM bi_closed_agents AS c))
               ) THEN '(hidden)'
               ELSE bi_mask_text(r.value)
           END AS value,
           sum(r.recipients)::bigint AS recipients, r.recipients_with_name, r.last_event_at, r.verdict, r.verdict_since,
           r.last_reconciled_at, r.as_of
    FROM bi_full.batch_results AS r
    GROUP BY r.upload_id, r.batch_id, r.agent_id, r.batch_name, r.campaign_id, r.campaign_role, r.batch_created_at,
             8, 9, r.recipients_with_name, r.last_event_at, r.verdict, r.verdict_since, r.last_reconciled_at, r.as_of
) AS m;

COMMENT ON VIEW bi.batch_results IS 'Recipients by each key of the agent''s results and its value, as of their latest attempt.';
COMMENT ON COLUMN bi.batch_results.name IS 'The key in the agent''s results, such as intent.';
COMMENT ON COLUMN bi.batch_results.value IS 'Its value as text. (null), (long text) for more than 80 characters, (masked) for what looks like a phone, account or address, (hidden) for a result that must not be shown.';
COMMENT ON COLUMN bi.batch_results.recipients IS 'Recipients whose latest attempt has this value.';
COMMENT ON COLUMN bi.batch_results.recipients_with_name IS 'Recipients whose latest attempt has this key, whatever its value.';
COMMENT ON COLUMN bi.batch_results.share_percent IS 'Percent, unrounded: recipients of recipients_with_name.';
