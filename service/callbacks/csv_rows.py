"""Callbacks as the rows of a CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

COLUMNS = (
    "due_at", "state", "result", "value", "phone", "batch_id", "batch_name", "agent_id", "recipient", "asked_at",
    "done_at", "done_by", "note", "conversation_id", "parameters",
)  # fmt: skip
_FORMULA = re.compile(r"[\t\n\r+\-=@＋－＝＠]")
_SIGNED_NUMBER = re.compile(r"[+-][0-9]+(\.[0-9]+)?", re.ASCII)


def write_header() -> bytes:
    """The names of the columns."""
    return _write([COLUMNS])


def write_rows(rows: Sequence[Any]) -> bytes:
    """Rows of the query ``list_callbacks``."""
    return _write([[_to_cell(row[name]) for name in COLUMNS] for row in rows])


def escape_formula(text: str) -> str:
    """Text that no spreadsheet runs as a formula: the same as ``sql/functions/10_export_cell.sql``."""
    return f"'{text}" if _FORMULA.match(text) and not _SIGNED_NUMBER.fullmatch(text) else text


def _to_cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return escape_formula(value) if isinstance(value, str) else value


def _write(rows: Iterable[Iterable[object]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()
