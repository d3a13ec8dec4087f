"""How an export's rows become a file. CSV and NDJSON come from the server as they are sent; Parquet is made of CSV.

An encoder says what it needs of the server, and turns the bytes that come into bytes that go: ``begin``, then
``encode`` for whatever comes, then ``end``.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

Format: TypeAlias = Literal["csv", "ndjson", "parquet"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
# COPY's text format would escape JSON's backslashes; its CSV format quotes only what holds one of these two, which JSON
# never does, since it escapes control characters itself.
_JSON_LINES = {"format": "csv", "delimiter": "\x02", "quote": "\x01"}


class Column(NamedTuple):
    """A column of an export: its name, and its type as Postgres calls it."""

    name: str
    type: str


class Encoder(Protocol):
    """Makes a file of what the server gives."""

    query_format: Literal["csv", "json"]
    copy_options: dict[str, Any]

    def begin(self) -> bytes:
        """What stands before the rows."""

    async def encode(self, rows: bytes) -> bytes:
        """The file's next bytes, if there are some yet; ``rows`` ends where a row ends."""

    async def end(self) -> bytes:
        """What stands after the rows."""


class CsvEncoder:
    """A header and the server's own CSV. The header is written here: a column's name may be longer than the server
    takes."""

    query_format: Literal["csv", "json"] = "csv"
    copy_options: dict[str, Any] = {"format": "csv"}  # noqa: RUF012 (constant)

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header

    def begin(self) -> bytes:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(self._header)
        return line.getvalue().encode()

    async def encode(self, rows: bytes) -> bytes:
        return rows

    async def end(self) -> bytes:
        return b""


class NdjsonEncoder:
    """One JSON object in each line."""

    query_format: Literal["csv", "json"] = "json"
    copy_options: dict[str, Any] = _JSON_LINES

    def begin(self) -> bytes:
        return b""

    async def encode(self, rows: bytes) -> bytes:
        return rows

    async def end(self) -> bytes:
        return b""


def name_cells(columns: Sequence[Column], parameters: Sequence[str] | None) -> list[str]:
    """The header of a CSV."""
    names: list[str] = []
    for column in columns:
        if column.name == "parameters" and parameters is not None:
            names += [f"parameters.{name}" for name in parameters]
        else:
            names.append(column.name)
    return names
