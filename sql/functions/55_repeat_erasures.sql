-- Repeats erasures that a restore has undone, from a list of tombstones kept elsewhere: those without a tombstone here that
-- is as late. Finds the phones by hashing every stored one, which takes a while and blocks webhooks meanwhile: run it
-- before the service. Returns how many erasures it began.
CREATE OR REPLACE FUNCTION repeat_erasures(p_hashes bytea[], p_erased_at timestamptz[], p_actor text) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    v_hashes bytea[];
    v_times  timestamptz[];
    v_begun  integer;
BEGIN
    PERFORM lock_ingest();
    SELECT array_agg(t.phone_hash), array_agg(t.erased_at) INTO v_hashes, v_times
    FROM (SELECT u.phone_hash, max(u.erased_at) AS erased_at
          FROM unnest(p_hashes, p_erased_at) AS u (phone_hash, erased_at) GROUP BY u.phone_hash) AS t
    LEFT JOIN erased_phones AS e ON e.phone_hash = t.phone_hash
    WHERE e.erased_at IS NULL OR e.erased_at < t.erased_at;
    IF v_hashes IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO erasures (phone, phone_hash, actor, requested_at)
    SELECT p.phone, t.phone_hash, p_actor, t.erased_at
    FROM (
        SELECT k.phone, hash_person('phone', k.phone) AS phone_hash
        FROM (
            SELECT phone FROM recipients WHERE phone IS NOT NULL
            UNION
            SELECT phone FROM unattributed WHERE phone IS NOT NULL
            UNION
            SELECT phone FROM other_events WHERE phone IS NOT NULL
            UNION
            SELECT from_phone FROM unattributed WHERE from_phone IS NOT NULL
            UNION
            SELECT from_phone FROM known_facts WHERE from_phone IS NOT NULL
            UNION
            SELECT '+' || m.digits[1]
            FROM quarantine AS q
            CROSS JOIN LATERAL regexp_matches(encode(q.body, 'escape'), '[0-9]{7,15}', 'g') AS m (digits)
            UNION
            SELECT '+' || m.digits[1]
            FROM rejected_rows AS j
            CROSS JOIN LATERAL regexp_matches(j.line, '[0-9]{7,15}', 'g') AS m (digits)
        ) AS k
    ) AS p
    JOIN unnest(v_hashes, v_times) AS t (phone_hash, erased_at) ON t.phone_hash = p.phone_hash;
    GET DIAGNOSTICS v_begun = ROW_COUNT;
    INSERT INTO erased_phones AS e (phone_hash, erased_at) SELECT * FROM unnest(v_hashes, v_times)
    ON CONFLICT (phone_hash) DO UPDATE SET erased_at = greatest(e.erased_at, excluded.erased_at);
    RETURN v_begun;
END
$$;
