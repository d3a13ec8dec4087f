-- THE rule of when events may wait in the spill stream: one row then, with how many were seen there, since when, and why
-- it is not known to be empty; no row when it is. It is known to be empty only while all of this holds:
--   the last look saw nothing there                                                       else 'waiting'
--   no other stream has been seen in its place                                            else 'replaced'
--   no replica says that it has put events there since, or has run out without a word     else 'announced'
--   that look was made in the last 30 s, by the clock of this database                    else 'unseen'
-- Where no spill is in use, there are no rows, and nothing waits. Every reader of a verdict asks, so it is in PL/pgSQL, which
-- keeps its plan: Postgres before 18 plans an SQL function again for each statement that calls it.
CREATE OR REPLACE FUNCTION find_spilled() RETURNS TABLE (events bigint, since timestamptz, cause text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1  -- readers of the BI views may not read the tables
SET search_path = pg_catalog, public
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM spill_states) AND NOT EXISTS (SELECT FROM spill_replicas) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT coalesce(sum(w.events), 0)::bigint, min(w.since),
           (ARRAY['replaced', 'waiting', 'announced', 'unseen'])[min(w.rank)]
    FROM (
        SELECT 0 AS events, a.checked_at AS since, 1 AS rank
        FROM spill_states AS s LEFT JOIN spill_states AS a ON a.is_accepted
        WHERE NOT s.is_accepted
        UNION ALL
        SELECT s.waiting_events, s.oldest_at, 2 FROM spill_states AS s WHERE s.waiting_events > 0
        UNION ALL
        SELECT 0, CASE WHEN s.checked_at <= clock_timestamp() THEN s.checked_at END, 4  -- after a failover, it may be ahead
        FROM spill_states AS s
        WHERE s.is_accepted AND s.checked_at NOT BETWEEN clock_timestamp() - interval '30 s' AND clock_timestamp()
        UNION ALL
        SELECT 0, CASE WHEN isfinite(k.at) THEN k.at END, 3
        FROM (
            SELECT CASE WHEN r.alive_until > clock_timestamp() + interval '5 s' THEN 'infinity'  -- such as 'unseen' above
                        WHEN r.alive_until < clock_timestamp() THEN r.alive_until ELSE r.spilled_at END AS at
            FROM spill_replicas AS r
        ) AS k
        WHERE k.at >= coalesce((SELECT s.checked_at FROM spill_states AS s WHERE s.is_accepted), '-infinity')
    ) AS w
    HAVING count(*) > 0;
END
$$;

-- The verdict that readers see: one that would be final is settling while events may wait. p_is_spilled is
-- EXISTS (SELECT FROM find_spilled()), an argument so that a statement evaluates it once.
CREATE OR REPLACE FUNCTION shown_verdict(p_verdict text, p_is_spilled boolean) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
SELECT CASE WHEN p_is_spilled AND p_verdict IN ('complete', 'drifted') THEN 'settling' ELSE coalesce(p_verdict, 'unverified') END
$$;

-- The sentence of a verdict that find_spilled() makes settling, without its numbers; the stored sentence of any other.
CREATE OR REPLACE FUNCTION shown_verdict_text(p_verdict text, p_text text, p_is_spilled boolean) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
SELECT CASE WHEN p_is_spilled AND p_verdict IN ('complete', 'drifted')
            THEN 'The provider has finished, and our figures may still change: events wait, or may wait, to be stored.'
            ELSE p_text END
$$;
