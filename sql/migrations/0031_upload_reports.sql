-- What was found in an upload's file, and the rows that were left out because of errors: they are given back to be
-- corrected.

-- compatible-from: 0021
-- migrate:up
CREATE TABLE upload_reports (
    batch_key  bigint      PRIMARY KEY,
    report     jsonb       NOT NULL,
    columns    text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE upload_reports IS 'What was found in the file of an upload, by the key of its main batch; counts, no people.';
COMMENT ON COLUMN upload_reports.columns IS 'The columns of the file that was received.';

CREATE TABLE rejected_rows (
    batch_key bigint  NOT NULL REFERENCES upload_reports ON DELETE CASCADE,
    row_no    integer NOT NULL,
    line      text    NOT NULL,
    PRIMARY KEY (batch_key, row_no)
);
COMMENT ON TABLE rejected_rows IS
    'Rows that an upload left out because of errors, as lines of a CSV with the error at the end; deleted after 30 days.';
CREATE INDEX upload_reports_created ON upload_reports (created_at);

-- migrate:down
DROP TABLE rejected_rows, upload_reports;
