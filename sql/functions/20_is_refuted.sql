-- Whether webhooks that name a recipient by reference prove that a call without a reference is not theirs:
--
-- - it would end them (p_ends, see ends_recipient()), and a call of theirs began later: nobody is called again after that;
-- - its number, or the only number left for it, does not fit: attempts are numbered from 1 in the order in which they begin.
--
-- A reference is proof, and a place by phone is not: so the reference is believed.
CREATE OR REPLACE FUNCTION is_refuted(
    p_batch_key bigint, p_recipient_no integer, p_called_at timestamptz, p_ends boolean, p_attempt_number integer
) RETURNS boolean
LANGUAGE sql STABLE
AS $$
SELECT coalesce(p_ends AND t.is_later, false)
    OR coalesce(p_attempt_number <= t.before, false)
    OR coalesce(t.after <= coalesce(p_attempt_number, coalesce(t.before, 0) + 1), false)
FROM (
    SELECT bool_or(r.called_at > p_called_at + interval '2 s') AS is_later,
           max(r.attempt_number) FILTER (WHERE r.called_at < p_called_at - interval '2 s') AS before,
           min(r.attempt_number) FILTER (WHERE r.called_at > p_called_at + interval '2 s') AS after
    FROM (
        SELECT f.attempt_number, coalesce(f.started_at, f.ended_at, f.occurred_at) AS called_at
        FROM facts AS f
        WHERE f.batch_key = p_batch_key AND f.recipient_no = p_recipient_no
          AND f.method = 'reference' AND f.source = 'webhook'
    ) AS r
) AS t
$$;
