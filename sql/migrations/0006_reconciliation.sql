-- Reconciliation: when each batch is compared and by whom, what the provider told, what came of it; and the one budget
-- of calls to the provider that all replicas share.

-- migrate:up
CREATE TABLE provider_budgets (
    account        text COLLATE "C" PRIMARY KEY,
    calls_limit    integer     NOT NULL DEFAULT 50,
    remaining      integer     NOT NULL DEFAULT 50,
    window_ends_at timestamptz NOT NULL DEFAULT '-infinity',
    is_window_told boolean     NOT NULL DEFAULT false,
    blocked_until  timestamptz NOT NULL DEFAULT '-infinity',
    failures       integer     NOT NULL DEFAULT 0,
    probe_until    timestamptz NOT NULL DEFAULT '-infinity',
    calls_made     bigint      NOT NULL DEFAULT 0
);
COMMENT ON TABLE provider_budgets IS
    'One row per account at the provider: what may still be called in its present window, claimed by all replicas from this one row.';
COMMENT ON COLUMN provider_budgets.account IS 'A digest of address and key; tells neither.';
COMMENT ON COLUMN provider_budgets.calls_limit IS 'X-RateLimit-Limit as last told; the contract''s until then.';
COMMENT ON COLUMN provider_budgets.remaining IS 'Left of the present window: counted down here by each claim, and lowered to what the provider tells.';
COMMENT ON COLUMN provider_budgets.is_window_told IS 'Whether the provider told the window''s end, or it is only assumed.';
COMMENT ON COLUMN provider_budgets.blocked_until IS 'Nobody calls before: Retry-After, or the back-off after failures.';
COMMENT ON COLUMN provider_budgets.failures IS 'In a row: 500s and lost answers. From five on the circuit is open.';
COMMENT ON COLUMN provider_budgets.probe_until IS 'While the circuit is open one caller at a time may try; should it die, the next may from here on.';

CREATE TABLE provider_metrics (
    batch_key            bigint      NOT NULL,
    taken_at             timestamptz NOT NULL,
    last_seen_at         timestamptz NOT NULL,
    total_recipients     integer,
    avg_duration_seconds double precision,
    busy_count           integer,
    completed_count      integer,
    failed_count         integer,
    in_progress_count    integer,
    no_answer_count      integer,
    pending_retry_count  integer,
    socket_failure_count integer,
    success_count        integer,
    success_rate         double precision,
    total_processed      integer,
    unreachable_count    integer,
    PRIMARY KEY (batch_key, taken_at)
);
COMMENT ON TABLE provider_metrics IS 'Snapshots: the provider''s own figures as a time series, one row for each change.';
COMMENT ON COLUMN provider_metrics.taken_at IS 'When they were first seen so.';
COMMENT ON COLUMN provider_metrics.last_seen_at IS 'When they were last seen so. A figure that was not told is null.';

CREATE TABLE reconciliations (
    batch_key         bigint      NOT NULL,
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY,
    compared_at       timestamptz NOT NULL,
    last_compared_at  timestamptz NOT NULL,
    comparisons       integer     NOT NULL DEFAULT 1,
    verdict           text COLLATE "C" NOT NULL,
    reasons           jsonb       NOT NULL,
    differences       jsonb       NOT NULL,
    inconsistencies   jsonb       NOT NULL,
    calls_spent       integer     NOT NULL,
    healed            integer     NOT NULL,
    PRIMARY KEY (batch_key, reconciliation_id),
    CONSTRAINT reconciliations_verdict
        CHECK (verdict IN ('unverified', 'open', 'settling', 'complete', 'drifted'))
);
COMMENT ON TABLE reconciliations IS 'What each comparison came to. One that found the same as the last is only counted with it.';
COMMENT ON COLUMN reconciliations.reasons IS 'Codes for programs, with the figure and number that each speaks of.';
COMMENT ON COLUMN reconciliations.healed IS 'Calls that were missing here and were brought in from their conversations.';

CREATE TABLE batch_schedules (
    batch_key          bigint PRIMARY KEY,
    due_at             timestamptz NOT NULL,
    leased_until       timestamptz NOT NULL DEFAULT '-infinity',
    holder             text,
    fence              bigint      NOT NULL DEFAULT 0,
    verdict            text COLLATE "C" NOT NULL DEFAULT 'unverified',
    verdict_since      timestamptz,
    last_reconciled_at timestamptz,
    healing            jsonb,
    CONSTRAINT batch_schedules_verdict
        CHECK (verdict IN ('unverified', 'open', 'settling', 'complete', 'drifted'))
) WITH (fillfactor = 70);
COMMENT ON TABLE batch_schedules IS 'When each batch is compared next, who is at it, and its present verdict.';
COMMENT ON COLUMN batch_schedules.due_at IS 'infinity: not until something happens.';
COMMENT ON COLUMN batch_schedules.leased_until IS 'Until then the holder works on it; afterwards anyone may.';
COMMENT ON COLUMN batch_schedules.fence IS 'Raised by every lease: whoever comes with an older one was too late and writes nothing.';
COMMENT ON COLUMN batch_schedules.healing IS 'How far the walk through the conversations has come; null when none is under way.';
CREATE INDEX batch_schedules_due_at ON batch_schedules (due_at) WHERE due_at < 'infinity';

-- migrate:down
DROP TABLE batch_schedules, reconciliations, provider_metrics, provider_budgets;
