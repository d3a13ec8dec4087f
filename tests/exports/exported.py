"""Reads exported files back, each by other means than wrote it, into rows as the JSON API shows them."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow.parquet as pq

Row = dict[str, Any]

TIMES = {
    "next_retry_at", "last_attempt_at", "known_at", "started_at", "ended_at", "occurred_at", "created_at", "as_of",
    "last_event_at", "last_reconciled_at",
}  # fmt: skip
OBJECTS = {"parameters", "results", "callbacks"}
TEXTS = {
    "phone", "state", "status", "failure_reason", "conversation_id", "source", "method", "event_id", "name",
    "campaign_role", "origin", "verdict", "from_phone", "trace_id", "goal_met",
}  # fmt: skip


async def export(service: httpx.AsyncClient, path: str, **params: Any) -> httpx.Response:
    """A whole file."""
    answer = await service.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer


def read_csv(content: bytes) -> list[Row]:
    """A CSV read with ``formulas=keep``: an empty cell without quotes is null; there are none with quotes here."""
    rows: list[Row] = []
    for cells in csv.DictReader(io.StringIO(content.decode(), newline="")):
        row: Row = {}
        parameters: Row = {}
        for name, cell in cells.items():
            if name.startswith("parameters."):
                parameters[name.removeprefix("parameters.")] = cell
            else:
                row[name] = _read_cell(name, cell)
        rows.append(row if "parameters" in row else row | {"parameters": parameters})
    return rows


def read_ndjson(content: bytes) -> list[Row]:
    return [tidy(json.loads(line)) for line in content.splitlines()]


def read_parquet_by_pyarrow(content: bytes) -> list[Row]:
    return [_tidy_maps(row) for row in pq.read_table(io.BytesIO(content)).to_pylist()]


def read_parquet_by_duckdb(content: bytes, folder: Path) -> list[Row]:
    path = folder / "export.parquet"
    path.write_bytes(content)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description]
        return [_tidy_maps(dict(zip(names, row, strict=True))) for row in found.fetchall()]


def tidy(row: Row) -> Row:
    """A row of the JSON API with its times as such."""
    return {name: _read_time(value) if name in TIMES else value for name, value in row.items()}


def flatten(row: Row) -> Row:
    """A tidy row as Parquet has it: members of objects are texts."""
    return row | {
        name: {key: to_text(value) for key, value in row[name].items()}
        for name in OBJECTS & row.keys()
        if row[name] is not None
    }


def to_text(value: Any) -> str | None:
    """A member as text: a string as it is, anything else as JSON, as the server writes it."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tidy_maps(row: Row) -> Row:
    shown = {name: dict(value) if name in OBJECTS and value is not None else value for name, value in row.items()}
    return {name: _read_moment(value) for name, value in shown.items()}


def _read_moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return float(value) if isinstance(value, Decimal) else value


def _read_time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


def _read_cell(name: str, cell: str) -> Any:
    readers: list[tuple[set[str], Callable[[str], Any]]] = [(TIMES, _read_time), (OBJECTS, json.loads), (TEXTS, str)]
    if cell == "":
        return None
    for names, read in readers:
        if name in names:
            return read(cell)
    return json.loads(cell)  # numbers, true and false
