"""Input and output of a check of contacts: plain values, which travel between processes as JSON.

No phone and no other cell is ever shown in full: see ``mask_phone`` and ``mask_cell``.
"""

import re
from typing import Literal

import msgspec

Duplicates = Literal["reject", "first", "all"]
Invalid = Literal["reject", "skip"]
LeftOutKind = Literal["suppressed", "called"]
EncodingName = Literal["utf-8", "windows-1252", "windows-1250", "windows-1251", "windows-1254", "mac-roman"]
DelimiterName = Literal["comma", "semicolon", "tab", "bar"]
PHONE_COLUMN = "customer_phone"
ERROR_COLUMN = "outcome_error"
"""Says in rows that are given back why they are not called. No upload sends it."""
MAX_LISTED = 100
_DIGITS_OF_A_PHONE = re.compile(r"[+0-9 ().\-/]{8,}")


class Workbook(msgspec.Struct, frozen=True):
    """A workbook of which one sheet was written as CSV. ``notes``: what a person should know of it."""

    sheet: str
    sheets: list[str]
    notes: list[str]


class ContactsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to read a file. ``ref_column`` "" adds none; ``region`` "" accepts international numbers only."""

    ref_column: str = ""
    phone_column: str = ""
    """The name of the phone's column; "" for ``customer_phone``."""
    encoding: EncodingName | None = None
    """How letters are encoded; None to find out."""
    delimiter: DelimiterName | None = None
    """What separates cells; None to find out."""
    drops_errors: bool = False
    """Whether the column ``outcome_error`` is left out."""
    workbook: Workbook | None = None
    """The workbook that it was a sheet of: rows have numbers instead of lines."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the file was read before."""
    region: str = ""
    is_region_stated: bool = False
    """Whether ``region`` was given for this file, and is no default."""
    duplicates: Duplicates = "reject"
    invalid: Invalid = "reject"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One batch to write: the file for the provider, and the rows for COPY into ``recipients``."""

    batch_key: int
    ref_token: str
    upload_path: str
    copy_path: str


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Where to write the rows that are given back, for COPY into ``rejected_rows``."""

    batch_key: int
    copy_path: str


class ContactError(msgspec.Struct):
    """An error in one row; ``value`` is masked."""

    line: int
    column: str | None
    value: str
    kind: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        column = f", column {self.column}:" if self.column else ""
        return f"file: line {self.line}{column} {self.problem}" + (f": {self.remedy}" if self.remedy else "")


class Duplicate(msgspec.Struct):
    """A row with the phone of an earlier row, on ``first_line``."""

    line: int
    first_line: int
    phone: str


class LeftOut(msgspec.Struct):
    """A row without an error that is not called, and why."""

    line: int
    phone: str
    kind: LeftOutKind
    """``suppressed``: on the list of people not to call. ``called``: called within ``skip_called_within``."""
    why: str


class CalledLately(msgspec.Struct):
    """People of a file who were called within a time, in any batch of any agent."""

    within: str
    people: int
    outcomes: dict[str, int]
    """By the state of their recipients, such as ``completed`` or ``in_progress``; a person in several batches may have
    several."""


class FileReading(msgspec.Struct, kw_only=True):
    """How a file was read: as the request says, or else as it was found."""

    phone_column: str
    """The name of the phone's column in the file."""
    region: str | None
    """The country of phones without a country code; null where only international ones are read."""
    encoding: str | None
    """Such as ``utf-8``; null for a workbook."""
    is_encoding_guessed: bool
    delimiter: DelimiterName | None
    """What separates cells; null for a workbook, and for a character without a name here, which the file states."""
    sheet: str | None
    """The sheet of a workbook that was read; null for any other file."""
    sheets: list[str]
    """All sheets of a workbook."""


class FileSummary(msgspec.Struct, kw_only=True):
    """What was found in a file, in numbers."""

    recipients: int = 0
    """Rows that are called."""
    countries: dict[str, int] = {}
    """Recipients by the country of their phones, such as ``IN``; a country code such as ``+1`` where no country has
    the number."""
    unlikely: int = 0
    """Recipients with a phone that is possible, but not in use as far as is known."""
    skipped: int = 0
    """Rows left out because of errors: see ``invalid``; without those of people who are called by another row."""
    empty_rows: int = 0
    empty_columns: int = 0
    """Columns without a name and content."""
    warnings: list[str] = []
    """What to check, though the file was read, such as a guessed encoding."""
    error_count: int = 0
    error_kinds: dict[str, int] = {}
    duplicate_count: int = 0
    repeated: int = 0
    """Rows that are not called because an earlier row has their phone: see ``duplicates``."""
    left_out_count: int = 0
    """Rows without errors that are not called: of suppressed people, and see ``skip_called_within``."""
    left_out_kinds: dict[str, int] = {}
    called: CalledLately | None = None
    """Who of the file was called lately, in any batch: see ``called_within``."""


def read_summary(report: str | None) -> FileSummary | None:
    """A summary as it is stored; fields that a newer version added are absent from older ones."""
    return msgspec.json.decode(report, type=FileSummary) if report else None


class ContactsReport(FileSummary, kw_only=True):
    """The report on a file. The lists hold the first 100; the counts cover all."""

    columns: list[str]
    names: list[str]
    """The columns as the file names them; the phone's may have another name there."""
    bytes: int = 0
    reading: FileReading | None = None
    errors: list[ContactError] = []
    duplicates: list[Duplicate] = []
    left_out: list[LeftOut] = []
    is_refused: bool = False
    """Whether it has errors and rows with errors are not skipped."""
    is_given_back: bool = False
    """Whether it holds rows that an upload left out before."""
    part_counts: list[int] = []
    rows_digest: str = ""
    """SHA-256, in hex, of the columns and the normalised rows; their order, encoding and delimiter do not change it."""
    people_digest: str = ""
    """SHA-256, in hex, of the sorted phones."""

    def summarise(self) -> FileSummary:
        return FileSummary(**{name: getattr(self, name) for name in FileSummary.__struct_fields__})

    def add_error(self, error: ContactError) -> None:
        """Counts an error, and lists it while there is room."""
        self.error_count += 1
        self.error_kinds[error.kind] = self.error_kinds.get(error.kind, 0) + 1
        if len(self.errors) < MAX_LISTED:
            self.errors.append(error)

    def add_duplicate(self, line: int, first_line: int, phone: str) -> None:
        self.duplicate_count += 1
        if len(self.duplicates) < MAX_LISTED:
            self.duplicates.append(Duplicate(line, first_line, mask_phone(phone)))

    def add_left_out(self, line: int, phone: str, kind: LeftOutKind, why: str) -> None:
        self.left_out_count += 1
        self.left_out_kinds[kind] = self.left_out_kinds.get(kind, 0) + 1
        if len(self.left_out) < MAX_LISTED:
            self.left_out.append(LeftOut(line, mask_phone(phone), kind, why))


def mask_phone(value: str) -> str:
    """The first three and last two characters of a value that looks like a phone; else its length."""
    if _DIGITS_OF_A_PHONE.fullmatch(value):
        return f"{value[:3]}…{value[-2:]}"
    return mask_cell(value)


def mask_cell(value: str) -> str:
    return f"({len(value)} characters)"
