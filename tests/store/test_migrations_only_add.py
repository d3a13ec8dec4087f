"""The rules for migrations in CONTRIBUTING, held against each file: the version before goes on beside them, and so does
everything else."""

import re
from pathlib import Path

import pytest

from service.store.migrations import COMPATIBLE_FROM, UP

FOLDER = Path(__file__).parents[2] / "sql" / "migrations"
RULES_SINCE = "0014"
"""Those before were never applied beside a service that was running."""
FORBIDDEN = {
    r"\bDROP\s+(TABLE|COLUMN|TYPE|FUNCTION|SEQUENCE|INDEX(?!\s+CONC))\b": "takes away what the version before uses",
    r"\bRENAME\b": "takes away the name that the version before uses",
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b": "rewrites the whole table, and locks all others out",
    r"\bSET\s+NOT\s+NULL\b": "reads the whole table behind a lock: add a CHECK … NOT VALID, validate it later",
    r"\bADD\s+COLUMN\b(?![^,;]*\bDEFAULT\b)[^,;]*\bNOT\s+NULL\b": "the version before cannot insert rows",
    r"\bDEFAULT\s+(clock_timestamp|gen_random_uuid|random|nextval)\b": "a volatile default rewrites the whole table",
    r"\bLOCK\s+TABLE\b": "locks everybody out",
    r"\bADD\s+CONSTRAINT\b(?![^;]*\bNOT\s+VALID\b)": "reads the whole table behind a lock: NOT VALID, validated later",
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\b(?!\s+CONCURRENTLY)": "keeps writers out: CONCURRENTLY, in a file of its own",
    r"\b(UPDATE|DELETE\s+FROM)\s+\w+\s+(SET|WHERE|USING)\b": "a backfill belongs into bounded steps beside the service",
}
MADE_HERE = re.compile(r"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)\s*\(.*?\n\)[^;]*;", re.DOTALL)


def find_faults(text: str) -> list[str]:
    """What a migration does that it must not, in words."""
    marker = UP.search(text)
    assert marker is not None
    up = re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", text[marker.end() :].partition("-- migrate:down")[0])
    made = MADE_HERE.findall(up)
    statements = [part.strip() for part in MADE_HERE.sub("", up).split(";") if part.strip()]
    faults = []
    if marker["alone"] and (len(statements) != 1 or not re.search(r"CONCURRENTLY\s+IF\s+(NOT\s+)?EXISTS", up)):
        faults.append("transaction:false takes one statement, CONCURRENTLY IF NOT EXISTS")
    if not marker["alone"] and "CONCURRENTLY" in up:
        faults.append("CONCURRENTLY takes '-- migrate:up transaction:false'")
    for statement in statements:
        if any(re.search(rf"\b(ON|TABLE|INTO)\s+{table}\b", statement) for table in made):
            continue  # nobody uses what is only made here
        faults += [why for pattern, why in FORBIDDEN.items() if re.search(pattern, statement, re.IGNORECASE)]
    return faults


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_a_migration_only_adds_and_locks_nobody_out(path: Path) -> None:
    if path.name[:4] < RULES_SINCE:
        return
    text = path.read_text()
    contracts = COMPATIBLE_FROM.search(text) is None and "-- contract:" in text
    assert contracts or find_faults(text) == [], path.name


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE held_files",
        "ALTER TABLE facts DROP COLUMN results",
        "ALTER TABLE facts RENAME COLUMN results TO outcome",
        "ALTER TABLE facts ALTER COLUMN duration_seconds TYPE bigint",
        "ALTER TABLE facts ALTER max_attempts SET DATA TYPE bigint",
        "ALTER TABLE facts ALTER COLUMN results SET NOT NULL",
        "ALTER TABLE facts ADD COLUMN a text NOT NULL",
        "ALTER TABLE facts ADD COLUMN a timestamptz DEFAULT clock_timestamp()",
        "ALTER TABLE facts ADD CONSTRAINT a CHECK (attempt_number > 0)",
        "CREATE INDEX a ON facts (event_id)",
        "CREATE INDEX CONCURRENTLY a ON facts (event_id)",
        "UPDATE facts SET results = '{}'",
        "DELETE FROM facts WHERE true",
        "CREATE TABLE a (\n    b text\n);\nDROP TABLE facts",
    ],
)
def test_what_must_not_be_is_found(statement: str) -> None:
    assert find_faults(f"-- migrate:up\n{statement};\n-- migrate:down\n") != []


@pytest.mark.parametrize(
    "text",
    [
        "-- migrate:up\nALTER TABLE facts ADD COLUMN a text, ADD COLUMN b boolean NOT NULL DEFAULT false;\n",
        "-- migrate:up\nCREATE TABLE a (\n    b uuid DEFAULT gen_random_uuid()\n);\nCREATE INDEX c ON a (b);\n",
        "-- migrate:up\nALTER TABLE facts ADD CONSTRAINT a CHECK (attempt_number > 0) NOT VALID;\n",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON facts (event_id);\n",
        "-- migrate:up\nSELECT 1;\n-- migrate:down\nDROP TABLE facts;\n",
    ],
)
def test_what_may_be_is_let_through(text: str) -> None:
    assert find_faults(text) == []
