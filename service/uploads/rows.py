"""Rows of a contacts file in CSV, with the line on which each begins; any usual encoding, delimiter and line ending.

Memory is bounded: a cell by ``MAX_CELL_CHARACTERS``, which also ends an unclosed quote, and a line likewise.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from service.errors import InvalidRequestError
from service.uploads.encodings import Encoding
from service.uploads.report import DelimiterName

MAX_CELL_CHARACTERS = 2**20
MAX_LINE_CHARACTERS = 2**24
DELIMITERS = ",;\t|"
NAMED_DELIMITERS: dict[str, DelimiterName] = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
LOST = "\ufffd"
"""What programs write for a letter that they could not read."""
_STATED = re.compile(r'(?i)"?sep=([^\w\s"]|\t)"?[,;\t|]*\s*')
"""A first line by which a spreadsheet states the delimiter."""


class Dialect(NamedTuple):
    """How to read a file as rows."""

    encoding: Encoding
    delimiter: str
    skipped_lines: int = 0
    """Lines at the top that are no rows."""
    counts_rows: bool = False
    """Whether a row's line is its number, as in a sheet, and not where an editor shows it."""


class Rows:
    """The rows of a file, header included. Call ``next_row`` until it returns None, then ``close``."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._dialect = dialect
        self.first_line = ""
        """The text of the last row's first line, with its end."""
        self._file = open_text(path, dialect.encoding)
        lines = self._read_lines()
        for _ in range(dialect.skipped_lines):
            next(lines, None)
        self._rows = csv.reader(lines, strict=True, delimiter=dialect.delimiter)
        self._count = 0
        self.line = 1

    def next_row(self) -> list[str] | None:
        """The next row, [] for a blank line, None at the end; raises csv.Error for an invalid row.

        ``line`` is the line on which it began, as an editor counts. After an error the next call reads the next line.
        """
        self._count += 1
        self.first_line = ""
        self.line = self._count if self._dialect.counts_rows else self._rows.line_num + 1 + self._dialect.skipped_lines
        try:
            return next(self._rows, None)
        except UnicodeError as error:  # UTF-16 cut short; UTF-8 never fails, see open_text
            raise InvalidRequestError(
                f"file: line {self.line} is not the {self._dialect.encoding.name} that the file's first bytes show: "
                "save the file as CSV UTF-8"
            ) from error

    def close(self) -> None:
        self._file.close()

    def _read_lines(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE_CHARACTERS):
            if len(line) == MAX_LINE_CHARACTERS and line[-1] not in "\r\n":
                raise InvalidRequestError(f"file: has a line of over {MAX_LINE_CHARACTERS} characters: is it a CSV?")
            self.first_line = self.first_line or line
            yield line


def open_text(path: Path, encoding: Encoding) -> TextIO:
    """The text; what is not UTF-8 is read as lone surrogates, so that it is an error of its own row."""
    errors = "surrogateescape" if encoding.is_lenient else "strict"
    return path.open(encoding=encoding.codec, errors=errors, newline="")


def find_stated_delimiter(path: Path, encoding: Encoding) -> str:
    """The delimiter that the first line states (``sep=;``), or ""."""
    with open_text(path, encoding) as file:
        try:
            stated = _STATED.fullmatch(file.readline(20))
        except UnicodeError:
            return ""
    return stated[1] if stated else ""


def is_text(cell: str) -> bool:
    """Whether a cell was in the file's encoding: invalid bytes are read as lone surrogates."""
    return cell.isascii() or not any("\ud800" <= character <= "\udfff" for character in cell)


def is_intact(cell: str) -> bool:
    """Whether a cell is text of which no letter was lost before."""
    return cell.isascii() or (LOST not in cell and is_text(cell))
