-- The facts about a recipient that count, by their arrival ids, in the order that attempts_of() sets. Runs with its owner's
-- rights: a view's functions run with the reader's, who may not read facts. It tells numbers and nothing else.
CREATE OR REPLACE FUNCTION bi_winning_arrivals(p_batch_key bigint, p_recipient_no integer) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
SELECT array_agg(a.arrival_id ORDER BY a.attempt_order, a.called_at NULLS FIRST, a.conversation_id)
FROM attempts_of(ARRAY[p_batch_key], ARRAY[p_recipient_no], NULL) AS a
$$;
