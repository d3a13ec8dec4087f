"""Formats of exports. CSV and NDJSON are passed on as the database server sends them; Parquet and XLSX are made
from its CSV.

An encoder names the format that it needs from the server and converts the bytes: call ``begin``, then ``encode`` for
each piece, then ``end``.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

Format: TypeAlias = Literal["csv", "ndjson", "parquet", "xlsx"]
QueryFormat: TypeAlias = Literal["csv", "json", "xlsx"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
TABLES: frozenset[Format] = frozenset({"csv", "xlsx"})
"""The formats for people: parameters and results may have columns of their own."""
CSV = {"format": "csv"}
# COPY's text format would escape JSON's backslashes. Its CSV format quotes only values with one of these two control
# characters, which JSON itself escapes.
JSON_LINES = {"format": "csv", "delimiter": "\x02", "quote": "\x01"}
JSON_VALUE = "json"
"""The type of a cell that is a single JSON value."""


class Column(NamedTuple):
    """A column of an export: its name, and its Postgres type."""

    name: str
    type: str


class Members(NamedTuple):
    """Which members of ``parameters`` and ``results`` have columns of their own; None: one column has all as JSON."""

    parameters: list[str] | None = None
    has_other_parameters: bool = False
    """Whether one more column has the parameters that are not named."""
    results: list[str] | None = None
    """One more column has the results that are not named."""
    parameter_prefix: str = "parameters."

    def expand(self, columns: Sequence[Column]) -> list[Column]:
        """The columns of the file, in the order in which ``export_query()`` writes its cells."""
        expanded: list[Column] = []
        for column in columns:
            if column.name == "parameters" and self.parameters is not None:
                expanded += [Column(f"{self.parameter_prefix}{name}", "text") for name in self.parameters]
                expanded += [column] if self.has_other_parameters else []
            elif column.name == "results" and self.results is not None:
                expanded += [*(Column(f"results.{name}", JSON_VALUE) for name in self.results), column]
            else:
                expanded.append(column)
        return expanded


class Encoder(Protocol):
    """Converts the server's rows into a file."""

    query_format: QueryFormat
    copy_options: dict[str, Any]

    def begin(self) -> bytes: ...

    async def encode(self, rows: bytes) -> bytes:
        """The file's next bytes, possibly none; ``rows`` ends at the end of a row."""

    async def end(self) -> bytes: ...


class TextEncoder:
    """A header and the server's own text."""

    def __init__(self, query_format: QueryFormat, copy_options: dict[str, Any], header: bytes) -> None:
        self.query_format = query_format
        self.copy_options = copy_options
        self._header = header

    def begin(self) -> bytes:
        return self._header

    async def encode(self, rows: bytes) -> bytes:
        return rows

    async def end(self) -> bytes:
        return b""


class Outbox(io.RawIOBase):
    """A file in memory, emptied by ``take``: what writes a file into it needs no more memory than one piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """The bytes written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def write_header(columns: Sequence[Column]) -> bytes:
    """The header of a CSV. The server cannot write it: a parameter's name may be longer than a column's."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(column.name for column in columns)
    return line.getvalue().encode()
