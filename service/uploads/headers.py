"""The header of a contacts file: the row that names its columns, and the column with the phones.

Where there is none, the error says which row or column seems to be meant. Names of columns are quoted, contacts never.
"""

import csv
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from service.errors import InvalidRequestError
from service.phones.parsing import PhoneError, normalise_phone
from service.spelling import find_near, reduce, split_words
from service.uploads.encodings import find_encoding, state_encoding
from service.uploads.kinds import is_workbook
from service.uploads.report import PHONE_COLUMN, ContactsOptions
from service.uploads.rows import (
    DELIMITERS,
    LOST,
    NAMED_DELIMITERS,
    Dialect,
    Rows,
    find_stated_delimiter,
    is_intact,
    is_text,
)

MAX_NORMALISED_CHARACTERS = 1000
MAX_COLUMNS = 2000
MAX_NAME_CHARACTERS = 500
JOINERS = "\u200c\u200d"
"""They are part of how words are spelt in many scripts."""
DOUBLE_MARK = "ï»¿"
"""A byte order mark that was read as Windows-1252 and written again."""
SEARCHED_ROWS = 100
"""In which a header or a column of phones is looked for."""
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 200
LISTED_COLUMNS = 200
LOST_LETTER = f"holds {LOST}: a letter was lost when the file was saved; write it again"
LONG_NUMBER = 7
"""Digits from which on a number may be a phone."""
CODE_DIGITS = 5
"""Digits from which on a cell that has nothing else is of a contact, such as a postcode."""
PHONE_WORDS = frozenset({
    "phone", "phones", "mobile", "mobil", "movil", "cell", "cellphone", "tel", "telephone", "telefon", "telefono",
    "whatsapp", "msisdn", "handy",
})  # fmt: skip


class Header(NamedTuple):
    """A row that names columns. ``names`` are as in the file, without invisible characters; "" for a column without
    a name."""

    dialect: Dialect
    names: list[str]
    line: int


def find_header(path: Path, options: ContactsOptions) -> Header:
    """The first row that is not blank, read with the delimiter that gives the phone's column, or else the most."""
    if is_workbook(path):
        raise InvalidRequestError("file: is an Excel workbook, and a CSV is needed here: save it as CSV UTF-8")
    encoding = state_encoding(options.encoding) if options.encoding else find_encoding(path)
    stated = find_stated_delimiter(path, encoding)
    asked = "".join(character for character, name in NAMED_DELIMITERS.items() if name == options.delimiter)
    found: list[Header] = []
    problem: csv.Error | None = None
    for delimiter in asked or stated or DELIMITERS:
        dialect = Dialect(encoding, delimiter, bool(stated), options.workbook is not None)
        try:
            header = next(_list_rows(path, dialect), None)
        except csv.Error as error:
            problem = error
            continue
        if header is None:
            raise InvalidRequestError(f"file: is empty; its first line names the columns, {PHONE_COLUMN} among them")
        found.append(header)
    if not found:
        raise InvalidRequestError(f"file: line 1 is not valid CSV: {problem}")
    return max(found, key=lambda header: (_match_phone(header.names, options) is not None, len(header.names)))


def _list_rows(path: Path, dialect: Dialect) -> Iterator[Header]:
    """The rows that are not blank, as if each was the header."""
    rows = Rows(path, dialect)
    try:
        while (cells := rows.next_row()) is not None:
            names = [clean(cell).removeprefix(DOUBLE_MARK) for cell in cells]
            if any(names):
                yield Header(dialect, names, rows.line)
    finally:
        rows.close()


def _match_phone(names: list[str], options: ContactsOptions) -> int | None:
    """The place of the phone's column; None where there is none, or it is not certain."""
    wanted = clean(options.phone_column) or PHONE_COLUMN
    if wanted in names:
        return names.index(wanted)
    near = [
        at for at, name in enumerate(names) if reduce(name) == reduce(wanted) and "\x00" not in name and is_text(name)
    ]
    return near[0] if len(near) == 1 else None


def find_phone_column(path: Path, header: Header, options: ContactsOptions) -> int:
    at = _match_phone(header.names, options)
    if at is None:
        names = [name[:SHOWN_CHARACTERS] for name in header.names[:LISTED_COLUMNS] if name and is_text(name)]
        raise InvalidRequestError(f"file: {_explain_missing(path, header, options)}", details={"columns": names})
    if options.phone_column and header.names[at] != PHONE_COLUMN and PHONE_COLUMN in header.names:
        raise InvalidRequestError(
            f"file: line {header.line} has a column {PHONE_COLUMN!r}, and {header.names[at]!r} goes out under that "
            f"name: rename or remove the column {PHONE_COLUMN!r}, or leave phone_column out to call its phones"
        )
    return at


def _explain_missing(path: Path, header: Header, options: ContactsOptions) -> str:
    """Why there is no phone's column, and what to do. Names of columns are quoted, contacts are not."""
    if later := _find_later_header(path, header, options):
        lines = f"line {header.line}" if later == header.line + 1 else f"lines {header.line} to {later - 1}"
        return f"line {later} seems to be the header: remove {lines}"
    names = [name for name in header.names if name]
    if any(map(_is_of_contact, names)):
        return (
            f"line {header.line} holds a contact, and names no columns: put a line above it that does, "
            f"{PHONE_COLUMN} among them"
        )
    if options.phone_column:
        near = find_near(options.phone_column, names)
        hint = f"did you mean {near!r}?" if near else f"it has {_quote(names)}"
        return f"line {header.line} has no column {options.phone_column[:50]!r}; {hint}"
    suggestion = _suggest_columns(header, _find_number_columns(path, header, options.region))
    return f"line {header.line} has no column {PHONE_COLUMN!r}; {suggestion}"


def _is_of_contact(cell: str) -> bool:
    """Whether a cell of the first row is one of a contact, such as an address or a number, and names no column."""
    return "@" in cell or count_digits(cell) >= LONG_NUMBER or (cell.isdigit() and len(cell) >= CODE_DIGITS)


def _suggest_columns(header: Header, numbers: list[str]) -> str:
    if not all(numbers):
        at = header.names.index("")
        return f"column {at + 1} ({to_letters(at)}) has no name: name it {PHONE_COLUMN} if it holds the phones"
    if len(numbers) == 1:
        return f"{numbers[0]!r} holds phone numbers: send phone_column={numbers[0]}"
    if numbers:
        return f"{_quote(numbers)} hold phone numbers: send one of them, such as phone_column={numbers[0]}"
    return f"it has {_quote(list(filter(None, header.names)))}. Name the one with the phones: phone_column=NAME"


def _find_later_header(path: Path, header: Header, options: ContactsOptions) -> int | None:
    """The line of a later row that has the phone's column, or has more cells than the first, and names a phone
    or stands above one."""
    candidates = header.dialect.delimiter if header.dialect.skipped_lines else DELIMITERS
    for delimiter in candidates:
        try:
            above = header
            for number, row in enumerate(_list_rows(path, header.dialect._replace(delimiter=delimiter))):
                if number and (_match_phone(row.names, options) is not None or _names_phone(row, header)):
                    return row.line
                if (
                    number > 1
                    and _is_header(above, header)
                    and any(is_phone(cell, options.region) for cell in row.names)
                ):
                    return above.line
                above = row
                if number == SEARCHED_ROWS:
                    break
        except csv.Error:
            continue
    return None


def _names_phone(row: Header, first: Header) -> bool:
    return _is_header(row, first) and any(PHONE_WORDS & set(split_words(name)) for name in row.names)


def _is_header(row: Header, first: Header) -> bool:
    """Whether a row may name columns, and the first row of the file does not, since it has fewer cells."""
    is_wide = sum(map(bool, row.names)) > max(1, sum(map(bool, first.names)))
    return is_wide and not any(map(count_digits, row.names))


def _find_number_columns(path: Path, header: Header, region: str) -> list[str]:
    """The names of columns that mostly hold phones; only those that are named like one, where there are some.

    "" stands for a column without a name."""
    filled, phones = [0] * len(header.names), [0] * len(header.names)
    try:
        for number, row in enumerate(_list_rows(path, header.dialect)):
            for at, cell in enumerate(row.names[: len(filled)]):
                if number and cell:
                    filled[at] += 1
                    phones[at] += is_phone(cell, region)
            if number == SEARCHED_ROWS:
                break
    except csv.Error:
        pass
    found = [
        name for at, name in enumerate(header.names) if phones[at] and 2 * phones[at] >= filled[at]
    ]  # fmt: skip
    named = [name for name in found if PHONE_WORDS & set(split_words(name))]
    return named or found


def is_phone(cell: str, region: str) -> bool:
    """Whether a cell is a phone, or would be one with a country."""
    try:
        normalise_phone(cell, region)
    except PhoneError as error:
        return error.kind in {"phone_country", "phone_unused", "phone_scientific", "phone_several"} and (
            count_digits(cell) > LONG_NUMBER or error.kind == "phone_scientific"
        )
    return True


def check_names(names: list[str], line: int, options: ContactsOptions) -> None:
    """Raises InvalidRequestError for names that cannot go out."""
    if not all(map(is_intact, names)):
        at = next(at for at, name in enumerate(names) if not is_intact(name))
        problem = LOST_LETTER if is_text(names[at]) else "is not UTF-8: save the file as CSV UTF-8"
        raise InvalidRequestError(f"file: line {line}, column {at + 1} ({to_letters(at)}): {problem}")
    if len(names) > MAX_COLUMNS:
        raise InvalidRequestError(f"file: line {line} has {len(names)} columns, more than {MAX_COLUMNS}")
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        where = f"file: line {line}, column {position}:"
        if "\x00" in name or len(name) > MAX_NAME_CHARACTERS:
            raise InvalidRequestError(f"{where} has no usable name")
        if name and name in seen:
            raise InvalidRequestError(f"{where} {name!r} is there twice; every column needs its own name")
        if name and name == options.ref_column:
            raise InvalidRequestError(
                f"{where} {name!r} is reserved for the reference that this service adds; "
                "rename it, or set OUTCOMES_REF_COLUMN"
            )
        seen.add(name)


def clean(cell: str) -> str:
    """A cell without surrounding blanks; outside ASCII also without invisible characters, and, if it could be
    a name, in NFC."""
    if cell.isascii():
        return cell.strip()
    visible = "".join(one for one in cell if one in JOINERS or (unicodedata.category(one) != "Cf" and one != "\ufe0f"))
    # The time to order combining characters grows with the square of their number.
    is_short = len(visible) <= MAX_NORMALISED_CHARACTERS
    return (unicodedata.normalize("NFC", visible) if is_short else visible).strip()


def count_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def to_letters(at: int) -> str:
    """The column's letters in a spreadsheet: A, B, …, Z, AA."""
    letters, rest = "", at + 1
    while rest:
        rest, place = divmod(rest - 1, 26)
        letters = chr(ord("A") + place) + letters
    return letters


def _quote(names: list[str]) -> str:
    return ", ".join(repr(name[:50]) for name in names[:SHOWN_COLUMNS]) or "none"
