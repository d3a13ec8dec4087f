"""Makes the next version of the service from this one: package, SQL and version number, in a separate folder.

Its schema does what an upgrade may do (CONTRIBUTING): it adds a column, a table and a concurrently built index, gives
``ingest`` another argument, and changes a function.
"""

import shutil
import sys
from pathlib import Path

from service.store.database import find_sql_folder
from service.store.migrations import read_migrations

SERVICE = Path(__file__).parents[2] / "service"
RELEASE = "99.0.0"
LAST = "    p_from_phones text[] DEFAULT NULL, p_trace_ids text[] DEFAULT NULL,\n"
KNOWN_BEFORE = (
    "text[], bytea[], text[], text[], bytea[], timestamptz[], text[], bigint[], text[], text[], integer[], text[], "
    "text[], integer[], integer[], text[], boolean[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], "
    "integer[], text[], text[], bytea[], text[], text[], text[]"
)
ADDS = """\
-- migrate:up
ALTER TABLE facts ADD COLUMN note text NOT NULL DEFAULT 'none';
CREATE TABLE notes (
    arrival_id bigint PRIMARY KEY,
    note       text NOT NULL
);
-- migrate:down
DROP TABLE notes;
ALTER TABLE facts DROP COLUMN note;
"""
INDEXES = """\
-- migrate:up transaction:false
CREATE INDEX CONCURRENTLY IF NOT EXISTS facts_note ON facts (note) WHERE note <> 'none';
-- migrate:down
DROP INDEX facts_note;
"""


class NextVersion:
    """Its program, and the settings with which Python finds it."""

    def __init__(self, folder: Path, *, adds: str = ADDS, is_compatible: bool = True) -> None:
        shutil.copytree(SERVICE, folder / "service", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(find_sql_folder(), folder / "sql")
        own = max(file.name[:4] for file in read_migrations())
        marker = f"-- compatible-from: {own}\n" if is_compatible else ""
        (folder / "sql" / "migrations" / "9001_adds.sql").write_text(marker + adds)
        (folder / "sql" / "migrations" / "9002_indexes.sql").write_text(marker + INDEXES)
        ingest = folder / "sql" / "functions" / "40_ingest.sql"
        text = ingest.read_text()
        assert LAST in text, "ingest() has other arguments now: bring this file up to it"
        text = text.replace(LAST, LAST + "    p_notes text[] DEFAULT NULL,\n")
        made = "CREATE OR REPLACE FUNCTION ingest("
        ingest.write_text(text.replace(made, f"DROP FUNCTION IF EXISTS ingest({KNOWN_BEFORE});\n{made}"))
        slot = folder / "sql" / "functions" / "10_attempt_slot.sql"
        slot.write_text(slot.read_text() + "COMMENT ON FUNCTION attempt_slot IS 'The next version''s.';\n")
        metadata = folder / f"formant_outcomes-{RELEASE}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: formant-outcomes\nVersion: {RELEASE}\n")
        # -P: modules in the tests' working folder must not come first.
        self.program = (sys.executable, "-P", "-m", "service")
        self.settings = {"PYTHONPATH": str(folder)}
