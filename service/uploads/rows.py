"""Rows of a contacts file, with the line on which each begins; any usual encoding, delimiter and line ending.

Memory is bounded: a cell by ``MAX_CELL_CHARACTERS``, which also ends an unclosed quote, and a line likewise.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from service.errors import InvalidRequestError
from service.uploads.report import PHONE_COLUMN

MAX_COLUMNS = 2000
MAX_CELL_CHARACTERS = 2**20
MAX_LINE_CHARACTERS = 2**24
MAX_NAME_CHARACTERS = 500
_DELIMITERS = ",;\t|"


class Rows:
    """The rows of a file, header included. Call ``next_row`` until it returns None, then ``close``."""

    def __init__(self, path: Path, delimiter: str) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._file = _open_text(path)
        self._rows = csv.reader(_read_lines(self._file), strict=True, delimiter=delimiter)
        self.line = 1

    def next_row(self) -> list[str] | None:
        """The next row, [] for a blank line, None at the end; raises csv.Error for an invalid row.

        ``line`` is the line on which it began, as an editor counts. After an error the next call reads the next line.
        """
        self.line = self._rows.line_num + 1
        try:
            return next(self._rows, None)
        except UnicodeError as error:  # UTF-16 cut short; UTF-8 never fails, see _open_text
            raise InvalidRequestError(
                f"file: line {self._rows.line_num + 1} is not the UTF-16 that the file's first bytes announce: "
                "save the file as CSV UTF-8"
            ) from error

    def close(self) -> None:
        self._file.close()


def open_rows(path: Path, ref_column: str) -> tuple[list[str], Rows]:
    """The columns, checked, and the rows that follow them; raises InvalidRequestError for an unusable header."""
    header, delimiter = _read_header(path)
    columns = [name.strip() for name in header]
    _check_header(columns, ref_column)
    rows = Rows(path, delimiter)
    rows.next_row()
    return columns, rows


def is_text(cell: str) -> bool:
    """Whether a cell was UTF-8: invalid bytes are read as lone surrogates."""
    return cell.isascii() or not any("\ud800" <= character <= "\udfff" for character in cell)


def _open_text(path: Path) -> TextIO:
    with path.open("rb") as file:
        start = file.read(2)
    if start in {b"\xff\xfe", b"\xfe\xff"}:
        return path.open(encoding="utf-16", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS and line[-1] not in "\r\n":
            raise InvalidRequestError(f"file: has a line of over {MAX_LINE_CHARACTERS} characters: is it a CSV?")
        yield line


def _read_header(path: Path) -> tuple[list[str], str]:
    """The first row and the delimiter: the one that yields the phone's column, or else the most columns."""
    found: list[tuple[bool, int, list[str], str]] = []
    problem: csv.Error | None = None
    for delimiter in _DELIMITERS:
        rows = Rows(path, delimiter)
        try:
            header = rows.next_row()
        except csv.Error as error:
            problem = error
            continue
        finally:
            rows.close()
        if header is None:
            raise InvalidRequestError("file: is empty; its first line names the columns, customer_phone among them")
        has_phone = PHONE_COLUMN in [name.strip() for name in header]
        found.append((has_phone, len(header), header, delimiter))
    if not found:
        raise InvalidRequestError(f"file: line 1 is not valid CSV: {problem}")
    _, _, header, delimiter = max(found, key=lambda one: one[:2])
    return header, delimiter


def _check_header(columns: list[str], ref_column: str) -> None:
    if not all(map(is_text, columns)):
        raise InvalidRequestError("file: line 1 is not UTF-8: save the file as CSV UTF-8")
    if PHONE_COLUMN not in columns:
        raise InvalidRequestError(f"file: line 1 {_explain_missing(columns)}")
    if len(columns) > MAX_COLUMNS:
        raise InvalidRequestError(f"file: line 1 has {len(columns)} columns, more than {MAX_COLUMNS}")
    seen: set[str] = set()
    for position, name in enumerate(columns, start=1):
        where = f"file: line 1, column {position}:"
        if not name or "\x00" in name or len(name) > MAX_NAME_CHARACTERS:
            raise InvalidRequestError(f"{where} has no usable name")
        if name in seen:
            raise InvalidRequestError(f"{where} {name!r} is there twice; every column needs its own name")
        if name == ref_column:
            raise InvalidRequestError(
                f"{where} {name!r} is reserved for the reference that this service adds; "
                "rename it, or set OUTCOMES_REF_COLUMN"
            )
        seen.add(name)


def _explain_missing(columns: list[str]) -> str:
    if any(sum(map(str.isdigit, name)) >= 7 for name in columns):  # a contact, so it is not quoted in the message
        return f"names no columns: put a line above it that does, {PHONE_COLUMN} among them"
    near = [name for name in columns if name.lower().replace(" ", "_") == PHONE_COLUMN]
    names = ", ".join(repr(name[:50]) for name in columns[:20]) or "none"
    hint = f"; did you mean it by {near[0]!r}?" if near else f"; it has {names}"
    return f"has no column {PHONE_COLUMN!r}{hint}"
