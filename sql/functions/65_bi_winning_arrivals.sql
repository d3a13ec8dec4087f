-- The arrival ids of the facts that count for a recipient, in the order of attempts_of(). Runs with its owner's rights,
-- because a view's functions run with those of the reader, who may not read facts. It returns only numbers.
CREATE OR REPLACE FUNCTION bi_winning_arrivals(p_batch_key bigint, p_recipient_no integer) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
SELECT array_agg(a.arrival_id ORDER BY a.attempt_order, a.called_at NULLS FIRST, a.conversation_id)
FROM attempts_of(ARRAY[p_batch_key], ARRAY[p_recipient_no], NULL) AS a
$$;
