-- Records what an answer of the provider says about its budget: X-RateLimit-* of the window, how long to pause, and
-- whether it failed. Seconds count from now, so the provider's clock need not agree with ours. An answer that comes after
-- its window has ended says nothing about the present one. No time is set more than an hour ahead: then the provider is
-- asked again, and a time further ahead is known to come from before the clock was set back.
CREATE OR REPLACE FUNCTION record_provider_answer(
    p_account text, p_failed boolean, p_limit integer, p_remaining integer, p_reset_seconds double precision,
    p_block_seconds double precision, p_backoff_seconds double precision, p_now timestamptz
)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_row  provider_budgets;
    v_now  timestamptz;
    v_ends timestamptz;
BEGIN
    SELECT * INTO v_row FROM provider_budgets AS b WHERE b.account = p_account FOR UPDATE;
    v_now := coalesce(p_now, clock_timestamp());
    IF v_row.blocked_until > v_now + interval '1 hour' THEN
        v_row.blocked_until := v_now;
    END IF;
    IF p_limit > 0 THEN
        v_row.remaining := v_row.remaining + greatest(0, p_limit - v_row.calls_limit);
        v_row.calls_limit := p_limit;
    END IF;
    IF p_reset_seconds > 0 AND v_row.window_ends_at > v_now THEN
        v_ends := v_now + make_interval(secs => least(3600, p_reset_seconds));
        -- Of two answers the one with the later end is right: a window that begins later ends later.
        IF NOT v_row.is_window_told OR v_ends > v_row.window_ends_at THEN
            v_row.window_ends_at := v_ends;
            v_row.is_window_told := true;
        END IF;
        v_row.remaining := least(v_row.remaining, p_remaining, v_row.calls_limit);
    END IF;
    v_row.failures := CASE WHEN p_failed THEN v_row.failures + 1 ELSE 0 END;
    IF p_failed THEN
        -- Doubled for each failure in a row, at most ten minutes.
        v_row.blocked_until := greatest(v_row.blocked_until, v_now + make_interval(
            secs => least(600, p_backoff_seconds * 2 ^ least(v_row.failures - 1, 20))));
    END IF;
    IF p_block_seconds > 0 THEN
        v_row.blocked_until := greatest(v_row.blocked_until, v_now + make_interval(secs => least(3600, p_block_seconds)));
    END IF;
    UPDATE provider_budgets AS b
    SET calls_limit = v_row.calls_limit, remaining = v_row.remaining, window_ends_at = v_row.window_ends_at,
        is_window_told = v_row.is_window_told, failures = v_row.failures, blocked_until = v_row.blocked_until,
        probe_until = '-infinity', failing_since = CASE WHEN p_failed THEN coalesce(b.failing_since, v_now) END
    WHERE b.account = p_account;
END
$$;
