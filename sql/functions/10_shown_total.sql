-- The number of recipients of a batch: the provider's figure, else those stored here; at least those with known calls, or
-- shares could exceed 100 percent. service/outcomes/summary.py applies the same rule to its own counts.
CREATE OR REPLACE FUNCTION shown_total(p_batch batches) RETURNS bigint
LANGUAGE sql STABLE
AS $$
SELECT greatest(
    coalesce(p_batch.total_recipients, p_batch.recipient_count - p_batch.withdrawn_count)::bigint,
    (SELECT sum(c.recipients) FROM outcome_counts AS c WHERE c.batch_key = p_batch.batch_key)::bigint)
$$;
