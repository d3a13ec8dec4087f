"""The check of a contacts file, as a function and as a program, so that a large file does not block the service.

``python -m service.uploads.checking`` reads a Task or a Conversion on one line of standard input and writes Messages,
one per line. It exits when its standard input closes, because its caller is gone.
"""

import csv
import hashlib
import os
import random
import re
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from service.errors import InvalidRequestError
from service.phones.parsing import PhoneError, normalise_phone
from service.phones.plans import WORLD, find_origin, split_code
from service.plain import name_choices
from service.uploads.days import may_be_day
from service.uploads.report import (
    ContactError,
    ContactsOptions,
    ContactsReport,
    LeftOutKind,
    Part,
    Rejected,
    Workbook,
    mask_cell,
    mask_phone,
)
from service.uploads.rows import LOST, is_intact, is_text
from service.uploads.tables import SHEET_REMEDY, RowError, Table, is_sheet_error
from service.uploads.workbooks import Conversion, bound_process, convert_workbook
from service.uploads.writers import REPEAT_REMEDY, PartWriter, RejectedWriter, explain_repeat

PROGRESS_ROWS = 20_000
MAX_SEARCHED_CHARACTERS = 200
_PIECE = re.compile(r"\+?[0-9][0-9 ()-]{6,}")
"""What may be a phone within a cell."""


class Task(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The program's input: the arguments of ``check_file``."""

    path: str
    options: ContactsOptions
    parts: tuple[Part, ...]
    test_recipients: int
    seed: int
    rejected: Rejected | None = None
    phones_path: str = ""
    """Where to write the phones of all rows without errors, each once and sorted; "" for nowhere."""
    left_out_path: str = ""
    """A CSV of phones whose rows are left out, each with the kind and why; "" for none."""


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The program's output: rows read so far; at the end the report of a check, the workbook of a conversion, or why
    the file is refused."""

    progress: int | None = None
    report: ContactsReport | None = None
    workbook: Workbook | None = None
    refused: str | None = None
    details: dict[str, Any] | None = None
    """With ``refused``: what the message cannot hold."""


def check_file(task: Task, on_progress: Callable[[int], None]) -> ContactsReport:
    """Checks the file and writes its parts. Raises InvalidRequestError for a file that cannot be checked row by row."""
    if not task.test_recipients:
        return _Check(task, frozenset(), on_progress).run(task.parts)
    report = _Check(task, frozenset(), on_progress).run(())
    if report.is_refused:
        report.part_counts = [0] * len(task.parts)
        return report
    if task.test_recipients >= report.recipients:
        raise InvalidRequestError(
            f"test_recipients: must be less than the file's number of recipients, {report.recipients}"
        )
    sample = random.Random(task.seed).sample(range(report.recipients), task.test_recipients)  # noqa: S311 no secret
    return _Check(task, frozenset(sample), on_progress).run(task.parts)


class _Check:
    """One pass over the file. ``sample`` holds the recipients, counted from 0, of the second part."""

    def __init__(self, task: Task, sample: frozenset[int], on_progress: Callable[[int], None]) -> None:
        self._task = task
        self._options = task.options
        self._sample = sample
        self._on_progress = on_progress
        self._first_lines: dict[int, int] = {}  # by phone
        self._left_out = _read_left_out(task.left_out_path) if task.left_out_path else {}

    def run(self, parts: tuple[Part, ...]) -> ContactsReport:
        path, options = Path(self._task.path), self._options
        self._table = table = Table(path, options)
        columns = table.columns
        self._report = ContactsReport(columns=columns, names=table.names, bytes=path.stat().st_size)
        self._order = sorted(range(len(columns)), key=columns.__getitem__)
        self._digests = self._days = self._rows = 0
        with ExitStack() as stack:
            stack.callback(table.close)
            writers = [PartWriter(part, columns, options.ref_column, stack) for part in parts]
            rejected = self._rejected = RejectedWriter(self._task.rejected, stack) if self._task.rejected else None
            self._run_rows(writers)
            if rejected is not None:
                rejected.finish(self._first_lines, len(columns))
            for writer in writers:
                writer.flush()
        self._report.reading = table.describe_reading()
        self._report.is_given_back = table.is_given_back
        self._report.empty_rows, self._report.empty_columns = table.empty_rows, table.empty_columns
        self._report.warnings = [*options.notes, *table.list_warnings()]
        # What is not CSV has no rows to skip: a quote that is not closed takes in all the rows behind it.
        is_broken = "csv" in self._report.error_kinds
        self._report.is_refused = is_broken or (options.invalid == "reject" and self._report.error_count > 0)
        if self._days and 2 * self._days >= self._rows:
            name = table.names[table.phone_at]
            raise InvalidRequestError(
                f"file: half or more cells of the column {name!r} may be days, such as 28112026: send "
                "phone_column=NAME for another column, or write the phones with + and the country code"
            )
        if not self._report.is_refused:
            self._report.skipped = self._report.error_count
            if not self._report.recipients:
                raise InvalidRequestError(f"file: {_explain_nobody(self._report)}")
        # A sum, so that the order of the rows does not matter.
        digests = self._hash_cells(columns).to_bytes(32) + (self._digests % 2**256).to_bytes(32)
        self._report.rows_digest = hashlib.sha256(digests).hexdigest()
        phones = sorted(self._first_lines)
        self._report.people_digest = hashlib.sha256(b"".join(phone.to_bytes(8) for phone in phones)).hexdigest()
        if self._task.phones_path:
            Path(self._task.phones_path).write_text("".join(f"+{phone}\n" for phone in phones))
        self._report.part_counts = [writer.count for writer in writers]
        return self._report

    def _run_rows(self, writers: list[PartWriter]) -> None:
        report, table, sample = self._report, self._table, self._sample
        while True:
            try:
                row = table.next_row()
                if row is None:
                    return
                self._rows += 1
                if self._rows % PROGRESS_ROWS == 0:
                    self._on_progress(self._rows)
                if not self._read(row):
                    continue
            except csv.Error as error:
                self._reject(RowError("csv", f"is not valid CSV: {error}", "check its quotes"))
            except RowError as error:
                self._reject(error)
            else:
                self._digests += self._hash_cells(row)
                phone = row[table.phone_at]
                if self._left_out and self._leave_out(phone):
                    continue
                if writers:
                    writers[report.recipients in sample].add(row)
                report.recipients += 1
                self._count_country(phone)

    def _reject(self, error: RowError) -> None:
        self._report.add_error(self._give_back(error))

    def _give_back(self, error: RowError) -> ContactError:
        found = ContactError(self._table.line, error.column, error.value, error.kind, error.problem, error.remedy)
        if self._rejected is not None:
            given_back = self._table.give_back(name_choices(str(found)), error.kind)
            self._rejected.add(given_back, self._find_phones(error.kind))
        return found

    def _find_phones(self, kind: str) -> set[int]:
        """The phones in a row with an error, also in a cell that holds more than one."""
        found = set()
        for cell in self._table.list_phone_cells(kind):
            pieces = dict.fromkeys((cell.strip(), *_PIECE.findall(cell[:MAX_SEARCHED_CHARACTERS])))
            for piece in pieces:
                with suppress(PhoneError):
                    found.add(int(normalise_phone(piece, self._options.region)))
            if found:
                break
        return found

    def _read(self, row: list[str]) -> bool:
        """Whether a row becomes a recipient; its phone is normalised in place. Raises RowError."""
        table, text = self._table, self._table.text
        if "\x00" in text or not is_intact(text):
            self._refuse_characters(row)
        cell = row[table.phone_at].strip()
        self._days += cell[:1] != "+" and may_be_day(cell)
        try:
            phone = normalise_phone(cell, self._options.region, is_stated=self._options.is_region_stated)
        except PhoneError as error:
            remedy = SHEET_REMEDY if is_sheet_error(cell) else error.remedy
            name = table.names[table.phone_at]
            raise RowError(error.kind, error.problem, remedy, name, mask_phone(cell)) from error
        first_line = self._first_lines.setdefault(int(phone), table.line)
        is_new = first_line == table.line or self._accept_duplicate(first_line, phone)
        if is_new:
            row[table.phone_at] = phone
        return is_new

    def _hash_cells(self, row: list[str]) -> int:
        """A row as it is compared with those of other files: its cells by the names of their columns, without
        surrounding blanks."""
        text = "\0".join([row[at].strip() for at in self._order])
        return int.from_bytes(hashlib.sha256(text.encode()).digest())

    def _leave_out(self, phone: str) -> bool:
        found = self._left_out.get(int(phone))
        if found is not None:
            self._report.add_left_out(self._table.line, phone, *found)
        return found is not None

    def _count_country(self, phone: str) -> None:
        origin, countries = find_origin(phone), self._report.countries
        country = origin.region if origin.region not in {"", WORLD} else f"+{split_code(phone[1:])}"
        countries[country] = countries.get(country, 0) + 1
        self._report.unlikely += not origin.is_valid

    def _accept_duplicate(self, first_line: int, phone: str) -> bool:
        policy = self._options.duplicates
        self._report.add_duplicate(self._table.line, first_line, phone)
        if policy == "all":
            return True
        self._report.repeated += 1
        is_error = policy == self._options.invalid == "reject"
        remedy = "remove one of the two, or send duplicates=first or duplicates=all" if is_error else REPEAT_REMEDY
        name = self._table.names[self._table.phone_at]
        error = RowError("duplicate", explain_repeat(first_line), remedy, name, mask_phone(phone))
        if is_error:
            raise error
        self._give_back(error)
        return False

    def _refuse_characters(self, row: list[str]) -> None:
        for name, cell in zip(self._table.names, row, strict=True):
            if not is_text(cell):
                raise RowError("encoding", "is not UTF-8", "save the file as CSV UTF-8", name, mask_cell(cell))
            if "\x00" in cell:
                raise RowError("nul", "holds a NUL character", "remove it", name, mask_cell(cell))
            if LOST in cell:
                raise RowError(
                    "lost_letter", f"holds {LOST}: a letter was lost when the file was saved", "write it again",
                    name, mask_cell(cell),
                )  # fmt: skip


def _read_left_out(path: str) -> dict[int, tuple[LeftOutKind, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return {int(phone): (cast(LeftOutKind, kind), why) for phone, kind, why in csv.reader(file)}


def _explain_nobody(report: ContactsReport) -> str:
    """Why a file without refused rows has nobody to call."""
    if not report.left_out_count and not report.error_count:
        return "has a header and no recipients"
    words = {"suppressed": "must not be called", "called": "called lately"}
    counts = ", ".join(f"{count} {words[kind]}" for kind, count in report.left_out_kinds.items())
    return "no row is left to call" + (f" ({counts})" if counts else "") + "".join(f"; {e}" for e in report.errors[:1])


def main() -> None:
    """The program. Nothing of the file reaches standard error, so an unexpected error ends it without a word."""
    os.nice(10)
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task | Conversion)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    try:
        _write(_run(task, lambda rows: _write(Message(progress=rows))))
    except InvalidRequestError as error:
        _write(Message(refused=error.message, details=error.details))
    except Exception:
        os._exit(1)
    os._exit(0)  # a normal exit would wait for the thread, which holds standard input's lock


def _run(task: Task | Conversion, on_progress: Callable[[int], None]) -> Message:
    if isinstance(task, Conversion):
        bound_process()
        return Message(workbook=convert_workbook(task, on_progress))
    return Message(report=check_file(task, on_progress))


def _end_with_caller() -> None:
    os.read(0, 1)  # no more input comes: this returns when the caller closes it or dies
    os._exit(1)


def _write(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
