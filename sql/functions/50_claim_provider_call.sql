-- Claims one call to the provider, atomically for all replicas; or says why not, and after how many seconds to ask again.
-- p_reserved is the share of a window that this caller leaves to others: background work leaves room for people.
-- p_now is for tests; null is the database's own clock, the only one that replicas share. It may be set back: a time
-- further ahead than record_provider_answer() ever sets counts as past.
CREATE OR REPLACE FUNCTION claim_provider_call(
    p_account text, p_reserved double precision, p_probe_seconds double precision, p_now timestamptz,
    OUT refusal text, OUT wait_seconds double precision
)
LANGUAGE plpgsql
AS $$
DECLARE
    v_row provider_budgets;
    v_now timestamptz;
    v_is_probe boolean := false;
BEGIN
    INSERT INTO provider_budgets (account) VALUES (p_account) ON CONFLICT DO NOTHING;
    SELECT * INTO v_row FROM provider_budgets AS b WHERE b.account = p_account FOR UPDATE;
    v_now := coalesce(p_now, clock_timestamp());
    wait_seconds := 0;
    IF v_row.blocked_until > v_now + interval '1 hour' THEN
        v_row.blocked_until := v_now;
    END IF;
    IF v_row.window_ends_at > v_now + make_interval(secs => (CASE WHEN v_row.is_window_told THEN 3600 ELSE 60 END)) THEN
        v_row.window_ends_at := v_now;
    END IF;
    IF v_row.probe_until > v_now + make_interval(secs => p_probe_seconds) THEN
        v_row.probe_until := v_now;
    END IF;
    IF v_row.blocked_until > v_now THEN
        refusal := CASE WHEN v_row.failures >= 5 THEN 'circuit_open' ELSE 'blocked' END;
        wait_seconds := extract(epoch FROM v_row.blocked_until - v_now);
        RETURN;
    END IF;
    IF v_row.failures >= 5 THEN
        IF v_row.probe_until > v_now THEN
            refusal := 'circuit_open';
            wait_seconds := extract(epoch FROM v_row.probe_until - v_now);
            RETURN;
        END IF;
        v_is_probe := true;
    END IF;
    IF v_row.window_ends_at <= v_now THEN
        -- A new window, as long as the contract's other limits suggest, until the provider reports its end.
        v_row.remaining := v_row.calls_limit;
        v_row.window_ends_at := v_now + interval '60 s';
        v_row.is_window_told := false;
    END IF;
    IF v_row.remaining <= least(floor(p_reserved * v_row.calls_limit), v_row.calls_limit - 1) THEN
        refusal := 'window_spent';
        wait_seconds := extract(epoch FROM v_row.window_ends_at - v_now);
        RETURN;
    END IF;
    UPDATE provider_budgets AS b
    SET remaining = v_row.remaining - 1, window_ends_at = v_row.window_ends_at,
        is_window_told = v_row.is_window_told, calls_made = b.calls_made + 1,
        probe_until = CASE WHEN v_is_probe THEN v_now + make_interval(secs => p_probe_seconds) ELSE b.probe_until END
    WHERE b.account = p_account;
END
$$;
