-- The state of a recipient that readers see: erased, or else that of its latest attempt. Counters count the latter in
-- either case.
CREATE OR REPLACE FUNCTION shown_state(p_batch_key bigint, p_recipient_no integer, p_state text) RETURNS text
LANGUAGE sql STABLE
AS $$
SELECT CASE
    WHEN EXISTS (SELECT FROM erased_recipients AS e
                 WHERE e.batch_key = p_batch_key AND e.recipient_no = p_recipient_no) THEN 'erased'
    ELSE p_state
END
$$;
