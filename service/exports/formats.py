"""Formats of exports. CSV and NDJSON are passed on as the database server sends them; Parquet is made from its CSV.

An encoder names the format that it needs from the server and converts the bytes: call ``begin``, then ``encode`` for
each piece, then ``end``.
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
CSV = {"format": "csv"}
# COPY's text format would escape JSON's backslashes. Its CSV format quotes only values with one of these two control
# characters, which JSON itself escapes.
JSON_LINES = {"format": "csv", "delimiter": "\x02", "quote": "\x01"}


class Column(NamedTuple):
    """A column of an export: its name, and its Postgres type."""

    name: str
    type: str


class Encoder(Protocol):
    """Converts the server's rows into a file."""

    query_format: Literal["csv", "json"]
    copy_options: dict[str, Any]

    def begin(self) -> bytes: ...

    async def encode(self, rows: bytes) -> bytes:
        """The file's next bytes, possibly none; ``rows`` ends at the end of a row."""

    async def end(self) -> bytes: ...


class TextEncoder:
    """A header and the server's own text."""

    def __init__(self, query_format: Literal["csv", "json"], copy_options: dict[str, Any], header: bytes) -> None:
        self.query_format = query_format
        self.copy_options = copy_options
        self._header = header

    def begin(self) -> bytes:
        return self._header

    async def encode(self, rows: bytes) -> bytes:
        return rows

    async def end(self) -> bytes:
        return b""


def write_header(columns: Sequence[Column], parameters: Sequence[str] | None, prefix: str) -> bytes:
    """The header of a CSV. The server cannot write it: a parameter's name may be longer than a column's."""
    names: list[str] = []
    for column in columns:
        if column.name == "parameters" and parameters is not None:
            names += [f"{prefix}{name}" for name in parameters]
        else:
            names.append(column.name)
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    return line.getvalue().encode()
