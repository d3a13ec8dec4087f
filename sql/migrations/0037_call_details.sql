-- What a call says about itself beside its outcome: the number it was made from, and the provider's id for support. They
-- are counted, as are the reasons of failures: call_counts.

-- compatible-from: 0032
-- migrate:up
-- take_facts() of the version before copies whole rows into past_facts, and the two tables no longer agree on the order of
-- their columns. Its functions may run until those of this version are applied.
DO $$
DECLARE
    v_columns text := 'batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, '
        'next_retry_at, occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, '
        'method, recorded_at';
BEGIN
    IF to_regprocedure('take_facts(bigint[])') IS NOT NULL THEN
        EXECUTE replace(
            pg_get_functiondef('take_facts(bigint[])'::regprocedure),
            'INSERT INTO past_facts SELECT taken.*, v_now FROM taken',
            format('INSERT INTO past_facts (%1$s, withdrawn_at) SELECT %1$s, v_now FROM taken', v_columns));
    END IF;
END $$;

ALTER TABLE facts ADD COLUMN from_phone text COLLATE "C", ADD COLUMN trace_id text;
ALTER TABLE past_facts ADD COLUMN from_phone text COLLATE "C", ADD COLUMN trace_id text;
ALTER TABLE unattributed ADD COLUMN from_phone text COLLATE "C", ADD COLUMN trace_id text;
COMMENT ON COLUMN facts.from_phone IS
    'The number that the call was made from, in E.164; null if the event does not name it. Filled from stored bodies for facts from before this column.';
COMMENT ON COLUMN facts.trace_id IS 'The provider''s id of the call, for its support; null once the person is erased.';

CREATE OR REPLACE VIEW known_facts AS
SELECT batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
       occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method, recorded_at,
       'infinity'::timestamptz AS withdrawn_at, from_phone, trace_id
FROM facts
UNION ALL
SELECT batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
       occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method, recorded_at,
       withdrawn_at, from_phone, trace_id
FROM past_facts;

CREATE TABLE call_counts (
    batch_key bigint NOT NULL,
    name      text COLLATE "C" NOT NULL,
    value     text COLLATE "C" NOT NULL,
    attempts  bigint NOT NULL,
    connects  bigint NOT NULL,
    magnitude smallint NOT NULL GENERATED ALWAYS AS (length(ltrim(attempts::bit(64)::text, '0'))) STORED,
    PRIMARY KEY (batch_key, name, value)
) WITH (fillfactor = 50);
COMMENT ON TABLE call_counts IS 'Attempts by the number they were made from and by the reason of their failure: see call_values().';
COMMENT ON COLUMN call_counts.name IS 'from_phone or failure_reason.';
COMMENT ON COLUMN call_counts.value IS 'The value. Empty: the sum over all values of this name.';
COMMENT ON COLUMN call_counts.connects IS 'Completed attempts.';
COMMENT ON COLUMN call_counts.magnitude IS 'As in result_counts: indexed instead of the count.';
CREATE INDEX call_counts_top ON call_counts (batch_key, name, magnitude DESC, value);

CREATE TABLE uncounted_calls (
    batch_key  bigint  PRIMARY KEY,
    counted_to integer NOT NULL
);
COMMENT ON TABLE uncounted_calls IS
    'Batches from before call_counts whose calls are not all counted there yet; a row goes when they are.';
COMMENT ON COLUMN uncounted_calls.counted_to IS 'Recipients up to this one are counted, and kept by deltas; those after it are in no counter.';

-- migrate:down
DROP SCHEMA IF EXISTS bi, bi_full CASCADE;
DROP TABLE uncounted_calls, call_counts;
DROP VIEW known_facts;
ALTER TABLE unattributed DROP COLUMN from_phone, DROP COLUMN trace_id;
ALTER TABLE past_facts DROP COLUMN from_phone, DROP COLUMN trace_id;
ALTER TABLE facts DROP COLUMN from_phone, DROP COLUMN trace_id;
CREATE VIEW known_facts AS
SELECT batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
       occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method, recorded_at,
       'infinity'::timestamptz AS withdrawn_at
FROM facts
UNION ALL
SELECT batch_key, recipient_no, arrival_id, conversation_id, attempt_number, max_attempts, status, is_final, next_retry_at,
       occurred_at, started_at, ended_at, duration_seconds, failure_reason, results, event_id, source, method, recorded_at,
       withdrawn_at
FROM past_facts;
