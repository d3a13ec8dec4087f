-- What was known when: all that is changed or taken away is kept beside what stands now, so that figures can be asked
-- for as of an earlier time. And the provider's signatures, so that bodies can be checked again.

-- migrate:up
CREATE TABLE past_facts (
    LIKE facts INCLUDING COMMENTS,
    withdrawn_at timestamptz NOT NULL,
    PRIMARY KEY (batch_key, recipient_no, arrival_id, withdrawn_at)
);
COMMENT ON TABLE past_facts IS
    'Facts that were taken from a recipient again, since it turned out not to be of its batch. They counted from recorded_at until withdrawn_at.';

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
COMMENT ON VIEW known_facts IS 'All facts that count or ever counted, each from recorded_at until withdrawn_at.';

ALTER TABLE recipients ADD COLUMN parameters_known_at timestamptz;
COMMENT ON COLUMN recipients.parameters_known_at IS
    'When a recipient that was known by its phone alone got its parameters; they were empty until then. Null: it always had them.';

CREATE TABLE batch_versions (
    batch_key        bigint      NOT NULL,
    changed_at       timestamptz NOT NULL,
    batch_id         bigint,
    name             text        NOT NULL,
    status           text,
    total_recipients integer,
    created_at       timestamptz,
    upload_state     text        NOT NULL,
    recipient_count  integer     NOT NULL,
    withdrawn_count  integer     NOT NULL,
    PRIMARY KEY (batch_key, changed_at)
);
COMMENT ON TABLE batch_versions IS
    'What readers see of a batch, one row for each change: written by a trigger, so that no writer can forget it. Recipients are numbered in the order in which they became known, so recipient_count tells which of them there were.';

CREATE FUNCTION note_batch_version() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM batch_versions AS v WHERE v.batch_key = OLD.batch_key;
        RETURN NULL;
    END IF;
    INSERT INTO batch_versions (batch_key, changed_at, batch_id, name, status, total_recipients, created_at, upload_state,
                                recipient_count, withdrawn_count)
    VALUES (NEW.batch_key, clock_timestamp(), NEW.batch_id, NEW.name, NEW.status, NEW.total_recipients, NEW.created_at,
            NEW.upload_state, NEW.recipient_count, NEW.withdrawn_count)
    ON CONFLICT (batch_key, changed_at) DO UPDATE
    SET batch_id = excluded.batch_id, name = excluded.name, status = excluded.status,
        total_recipients = excluded.total_recipients, created_at = excluded.created_at,
        upload_state = excluded.upload_state, recipient_count = excluded.recipient_count,
        withdrawn_count = excluded.withdrawn_count;
    RETURN NULL;
END
$$;
CREATE TRIGGER batches_are_new AFTER INSERT OR DELETE ON batches
    FOR EACH ROW EXECUTE FUNCTION note_batch_version();
CREATE TRIGGER batches_have_changed AFTER UPDATE ON batches
    FOR EACH ROW
    WHEN ((OLD.batch_id, OLD.name, OLD.status, OLD.total_recipients, OLD.created_at, OLD.upload_state,
           OLD.recipient_count, OLD.withdrawn_count)
          IS DISTINCT FROM
          (NEW.batch_id, NEW.name, NEW.status, NEW.total_recipients, NEW.created_at, NEW.upload_state,
           NEW.recipient_count, NEW.withdrawn_count))
    EXECUTE FUNCTION note_batch_version();
-- Of batches from before this table only their present state is known.
INSERT INTO batch_versions
SELECT batch_key, prepared_at, batch_id, name, status, total_recipients, created_at, upload_state, recipient_count,
       withdrawn_count
FROM batches;

CREATE TABLE verdict_history (
    batch_key         bigint      NOT NULL,
    recorded_at       timestamptz NOT NULL,
    compared_at       timestamptz NOT NULL,
    verdict_since     timestamptz NOT NULL,
    reconciliation_id bigint      NOT NULL,
    PRIMARY KEY (batch_key, recorded_at)
);
COMMENT ON TABLE verdict_history IS
    'When each comparison became known, and the row of reconciliations that tells what it came to; equal ones share a row there.';
COMMENT ON COLUMN verdict_history.recorded_at IS 'By the database''s clock: from then on readers were told this verdict.';
INSERT INTO verdict_history
SELECT r.batch_key, t.at, t.at,
       coalesce((SELECT min(n.compared_at) FROM reconciliations AS n
                 WHERE n.batch_key = r.batch_key AND n.reconciliation_id <= r.reconciliation_id
                   AND n.reconciliation_id > coalesce((
                       SELECT max(o.reconciliation_id) FROM reconciliations AS o
                       WHERE o.batch_key = r.batch_key AND o.reconciliation_id < r.reconciliation_id
                         AND o.verdict <> r.verdict), 0)), r.compared_at),
       r.reconciliation_id
FROM reconciliations AS r
CROSS JOIN LATERAL (VALUES (r.compared_at), (r.last_compared_at)) AS t (at)
ON CONFLICT DO NOTHING;

-- A null in them takes no room, and no row is rewritten.
ALTER TABLE event_bodies ADD COLUMN signature bytea;
ALTER TABLE quarantine ADD COLUMN signature bytea;
COMMENT ON COLUMN event_bodies.signature IS
    'The provider''s HMAC-SHA256 of the body, 32 bytes, as it was verified on arrival. Null: not a webhook, unsigned, or from before signatures were kept.';
COMMENT ON COLUMN quarantine.signature IS 'As that of event_bodies.';

-- It takes one argument more now.
DROP FUNCTION IF EXISTS recount_step(bigint, integer, integer);

-- migrate:down
ALTER TABLE quarantine DROP COLUMN signature;
ALTER TABLE event_bodies DROP COLUMN signature;
DROP TABLE verdict_history;
DROP TRIGGER batches_have_changed ON batches;
DROP TRIGGER batches_are_new ON batches;
DROP FUNCTION note_batch_version();
DROP TABLE batch_versions;
ALTER TABLE recipients DROP COLUMN parameters_known_at;
DROP VIEW known_facts;
DROP TABLE past_facts;
