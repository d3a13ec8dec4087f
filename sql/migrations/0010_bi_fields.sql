-- What BI readers without a right to people's data may see of call parameters and results.

-- migrate:up
CREATE TABLE bi_fields (
    kind     text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    is_shown boolean NOT NULL,
    PRIMARY KEY (kind, name),
    CONSTRAINT bi_fields_kind CHECK (kind IN ('parameter', 'result'))
);
COMMENT ON TABLE bi_fields IS
    'Exceptions for the masked views of schema bi: call parameters are hidden unless listed as shown, results are shown unless listed as hidden.';
COMMENT ON COLUMN bi_fields.name IS 'The name of the CSV''s column, or the key in results.';

-- migrate:down
DROP SCHEMA IF EXISTS bi, bi_full CASCADE;
DROP TABLE bi_fields;
