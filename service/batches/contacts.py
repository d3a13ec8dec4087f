"""Contacts: a CSV read, checked and given its reference column, in chunks, so that its size does not matter.

Every error names the line of the file and the column, and never the value: it may be a person's.
"""

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, TextIO

import msgspec

from service.errors import InvalidRequestError

PHONE_COLUMN = "customer_phone"
CHUNK_ROWS = 2000
MAX_COLUMNS = 2000
MAX_CELL_CHARACTERS = 2**20
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Contact(NamedTuple):
    """One recipient-to-be: its number from 1, its phone in E.164, and the other columns as a JSON object."""

    recipient_no: int
    phone: str
    parameters: str


class ContactsReader:
    """Reads contacts from ``file`` and writes the same rows, with their references, to ``upload``.

    ``ref_column`` "" adds no column; else the reference of recipient n is ``TOKEN-n``.
    Raises InvalidRequestError, naming line and column, from the constructor for the header and from ``chunks``.
    """

    def __init__(self, file: BinaryIO, upload: TextIO, *, ref_column: str, ref_token: str) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._rows = csv.reader(_read_lines(file), strict=True)
        self._writer = csv.writer(upload)
        self._ref_token = ref_token
        header = self._next_row()
        if header is None:
            raise InvalidRequestError("file: is empty; its first line names the columns, customer_phone among them")
        self.columns = [name.strip() for name in header]
        _check_header(self.columns, ref_column)
        self._has_reference = bool(ref_column)
        self._phone_at = self.columns.index(PHONE_COLUMN)
        self._parameter_columns = [name for name in self.columns if name != PHONE_COLUMN]
        self._writer.writerow([*self.columns, ref_column] if ref_column else self.columns)
        self.count = 0

    def chunks(self) -> Iterator[list[Contact]]:
        """The contacts, some thousands at a time; each is in ``upload`` when it is given out."""
        while chunk := self._read_chunk():
            yield chunk
        if self.count == 0:
            raise InvalidRequestError("file: has a header and no recipients")

    def _read_chunk(self) -> list[Contact]:
        chunk: list[Contact] = []
        while len(chunk) < CHUNK_ROWS and (row := self._next_row()) is not None:
            if row:  # a blank line is none
                chunk.append(self._read_contact(row))
        return chunk

    def _read_contact(self, row: list[str]) -> Contact:
        line = self._line
        if len(row) != len(self.columns):
            raise InvalidRequestError(f"file: line {line} has {len(row)} cells, the header {len(self.columns)}")
        phone = row[self._phone_at] = row[self._phone_at].strip()
        if not _E164.fullmatch(phone):
            raise InvalidRequestError(
                f"file: line {line}, column {PHONE_COLUMN}: is not a phone number in E.164, "
                "which is + and 7 to 15 digits, such as +919876543210"
            )
        for name, cell in zip(self.columns, row, strict=True):
            if _UNSTORABLE.search(cell):
                raise InvalidRequestError(f"file: line {line}, column {name}: holds a NUL character")
        self.count += 1
        self._writer.writerow([*row, f"{self._ref_token}-{self.count}"] if self._has_reference else row)
        del row[self._phone_at]
        parameters = msgspec.json.encode(dict(zip(self._parameter_columns, row, strict=True))).decode()
        return Contact(self.count, phone, parameters)

    def _next_row(self) -> list[str] | None:
        self._line = self._rows.line_num + 1  # where the row begins; quoted line breaks may carry it further
        try:
            return next(self._rows, None)
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"file: line {self._rows.line_num + 1} is not UTF-8: save the file as CSV UTF-8"
            ) from error
        except csv.Error as error:
            raise InvalidRequestError(f"file: line {self._line} is not valid CSV: {error}") from error


def _read_lines(file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8")


def _check_header(columns: list[str], ref_column: str) -> None:
    if PHONE_COLUMN not in columns:
        if any(sum(map(str.isdigit, name)) >= 7 for name in columns):  # a contact, so nothing of it is quoted
            raise InvalidRequestError(
                f"file: line 1 names no columns: put a line above it that does, {PHONE_COLUMN} among them"
            )
        near = [name for name in columns if name.lower().replace(" ", "_") == PHONE_COLUMN]
        names = ", ".join(map(repr, columns[:20])) or "none"
        hint = f"; did you mean it by {near[0]!r}?" if near else f"; it has {names}"
        raise InvalidRequestError(f"file: line 1 has no column {PHONE_COLUMN!r}{hint}")
    if len(columns) > MAX_COLUMNS:
        raise InvalidRequestError(f"file: line 1 has {len(columns)} columns, more than {MAX_COLUMNS}")
    for position, name in enumerate(columns, start=1):
        if not name or _UNSTORABLE.search(name):
            raise InvalidRequestError(f"file: line 1, column {position}: has no usable name")
        if columns.index(name) != position - 1:
            raise InvalidRequestError(
                f"file: line 1, column {position}: {name!r} is there twice; every column needs a name of its own"
            )
        if name == ref_column:
            raise InvalidRequestError(
                f"file: line 1, column {position}: {name!r} is reserved for the reference that this service adds; "
                "rename it, or set OUTCOMES_REF_COLUMN"
            )


import io as _io

from service.batches.report import ContactsReport, Duplicates


class ContactsOptions(msgspec.Struct, frozen=True, kw_only=True):
    ref_column: str = ""
    default_region: str = ""
    duplicates: Duplicates = "reject"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    batch_key: int
    ref_token: str
    upload_path: str
    copy_path: str


def read_columns(path, options):
    return ContactsReader(_io.BytesIO(path.read_bytes()), _io.StringIO(), ref_column="", ref_token="").columns


async def check_contacts(path, options, parts=(), *, test_recipients=0, seed=0, on_progress=None):
    rows = [
        c
        for ch in ContactsReader(
            _io.BytesIO(path.read_bytes()), _io.StringIO(), ref_column=options.ref_column, ref_token="x"
        ).chunks()
        for c in ch
    ]
    columns = read_columns(path, options)
    split = [rows[test_recipients:], rows[:test_recipients]] if test_recipients else [rows]
    for part, mine in zip(parts, split):
        with open(part.copy_path, "w", newline="") as f, open(part.upload_path, "w", newline="") as u:
            w = csv.writer(f)
            v = csv.writer(u)
            v.writerow([*columns, options.ref_column] if options.ref_column else columns)
            for n, c in enumerate(mine, 1):
                w.writerow((part.batch_key, n, c.phone, c.parameters))
                p = msgspec.json.decode(c.parameters)
                row = [c.phone if k == PHONE_COLUMN else p[k] for k in columns]
                v.writerow([*row, f"{part.ref_token}-{n}"] if options.ref_column else row)
    return ContactsReport(columns=columns, recipients=len(rows), part_counts=[len(s) for s in split])
