-- How many recipients a batch has: the provider's figure, else those stored here; never fewer than those of whom calls are
-- known, or shares would go beyond all. service/outcomes/summary.py has the same for what it counts by itself.
CREATE OR REPLACE FUNCTION shown_total(p_batch batches) RETURNS bigint
LANGUAGE sql STABLE
AS $$
SELECT greatest(
    coalesce(p_batch.total_recipients, p_batch.recipient_count - p_batch.withdrawn_count)::bigint,
    (SELECT sum(c.recipients) FROM outcome_counts AS c WHERE c.batch_key = p_batch.batch_key)::bigint)
$$;
