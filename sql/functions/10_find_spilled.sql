-- THE rule of when events may wait in the spill stream: one row then, with how many were seen there and since when; no row
-- when the stream is known to be empty. They may wait if some were there when it was last looked at, or if a replica may
-- have put some there since: it says so, or its row has run out. Where no spill was ever in use, nothing waits.
CREATE OR REPLACE FUNCTION find_spilled() RETURNS TABLE (events bigint, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1  -- readers of the BI views may not read the tables
SET search_path = pg_catalog, public
AS $$
SELECT coalesce(sum(w.events), 0)::bigint, min(w.since)
FROM (
    SELECT s.waiting_events AS events, s.oldest_at AS since FROM spill_states AS s WHERE s.waiting_events > 0
    UNION ALL
    SELECT 0, CASE WHEN isfinite(k.at) THEN k.at END
    FROM (
        SELECT CASE WHEN r.alive_until < clock_timestamp() THEN r.alive_until ELSE r.spilled_at END AS at
        FROM spill_replicas AS r
    ) AS k
    WHERE k.at >= coalesce((SELECT max(s.checked_at) FROM spill_states AS s), '-infinity')
) AS w
HAVING count(*) > 0
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
            THEN 'The provider has finished, and our figures may still change: events wait to be stored.'
            ELSE p_text END
$$;
