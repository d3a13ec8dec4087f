"""The check of a contacts file, as a function and as a program, so that a large file does not block the service.

``python -m service.uploads.checking`` reads a Task on one line of standard input and writes Messages, one per line.
It exits when its standard input closes, because its caller is gone.
"""

import csv
import hashlib
import os
import random
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from service.errors import InvalidRequestError
from service.phones.parsing import PhoneError, normalise_phone
from service.uploads.report import PHONE_COLUMN, ContactsOptions, ContactsReport, Part, mask_cell, mask_phone
from service.uploads.rows import Rows, is_text, open_rows

CHUNK_ROWS = 2000
PROGRESS_ROWS = 20_000


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The program's input: the arguments of ``check_file``."""

    path: str
    options: ContactsOptions
    parts: tuple[Part, ...]
    test_recipients: int
    seed: int


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The program's output: rows checked so far; at the end the report or why the file is refused."""

    progress: int | None = None
    report: ContactsReport | None = None
    refused: str | None = None


def check_file(task: Task, on_progress: Callable[[int], None]) -> ContactsReport:
    """Checks the file and writes its parts. Raises InvalidRequestError for a file that cannot be checked row by row."""
    if not task.test_recipients:
        return _Check(task, frozenset(), on_progress).run(task.parts)
    report = _Check(task, frozenset(), on_progress).run(())
    if report.error_count:
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
        self._sample = sample
        self._on_progress = on_progress
        self._first_lines: dict[int, int] = {}  # by phone

    def run(self, parts: tuple[Part, ...]) -> ContactsReport:
        path, options = Path(self._task.path), self._task.options
        columns, rows = open_rows(path, options.ref_column)
        self._report = ContactsReport(columns=columns, bytes=path.stat().st_size)
        self._phone_at = columns.index(PHONE_COLUMN)
        self._digest = hashlib.sha256(_join_cells(columns))
        with ExitStack() as stack:
            stack.callback(rows.close)
            writers = [_PartWriter(part, columns, options.ref_column, stack) for part in parts]
            self._run_rows(rows, writers)
            for writer in writers:
                writer.flush()
        if not self._report.recipients and not self._report.error_count:
            raise InvalidRequestError("file: has a header and no recipients")
        self._report.rows_digest = self._digest.hexdigest()
        phones = b"".join(phone.to_bytes(8) for phone in sorted(self._first_lines))
        self._report.people_digest = hashlib.sha256(phones).hexdigest()
        self._report.part_counts = [writer.count for writer in writers]
        return self._report

    def _run_rows(self, rows: Rows, writers: list["_PartWriter"]) -> None:
        report, sample, count = self._report, self._sample, 0
        while True:
            try:
                row = rows.next_row()
            except csv.Error as error:
                report.add_error(rows.line, None, "", "csv", f"is not valid CSV: {error}", "check its quotes")
                continue
            if row is None:
                return
            if not row:  # a blank line
                continue
            count += 1
            if count % PROGRESS_ROWS == 0:
                self._on_progress(count)
            if self._accept(row, rows.line):
                self._digest.update(_join_cells(row))
                if writers:
                    writers[report.recipients in sample].add(row)
                report.recipients += 1

    def _accept(self, row: list[str], line: int) -> bool:
        """Whether a row becomes a recipient; its phone is normalised in place."""
        report, width = self._report, len(self._report.columns)
        if len(row) != width:
            problem = f"has {len(row)} cells, the header {width}"
            report.add_error(line, None, "", "cells", problem, "quote cells that hold the delimiter")
            return False
        joined = "".join(row)
        if "\x00" in joined or not is_text(joined):
            self._refuse_characters(row, line)
            return False
        try:
            phone = normalise_phone(row[self._phone_at].strip(), self._task.options.default_region)
        except PhoneError as error:
            value = mask_phone(row[self._phone_at].strip())
            report.add_error(line, PHONE_COLUMN, value, error.kind, error.problem, error.remedy)
            return False
        row[self._phone_at] = phone
        first_line = self._first_lines.setdefault(int(phone), line)
        return first_line == line or self._accept_duplicate(line, first_line, phone)

    def _accept_duplicate(self, line: int, first_line: int, phone: str) -> bool:
        policy = self._task.options.duplicates
        self._report.add_duplicate(line, first_line, phone)
        if policy == "reject":
            problem = f"has the phone of line {first_line} again"
            remedy = "remove one of the two, or send duplicates=first or duplicates=all"
            self._report.add_error(line, PHONE_COLUMN, mask_phone(phone), "duplicate", problem, remedy)
        return policy == "all"

    def _refuse_characters(self, row: list[str], line: int) -> None:
        for name, cell in zip(self._report.columns, row, strict=True):
            if not is_text(cell):
                remedy = "save the file as CSV UTF-8"
                return self._report.add_error(line, None, mask_cell(cell), "encoding", "is not UTF-8", remedy)
            if "\x00" in cell:
                problem = "holds a NUL character"
                return self._report.add_error(line, name, mask_cell(cell), "nul", problem, "remove it")
        return None


def _join_cells(row: list[str]) -> bytes:
    """A row as it is compared: the number of cells, then the cells without surrounding blanks."""
    return "\0".join([str(len(row)), *map(str.strip, row), ""]).encode()


class _PartWriter:
    """Writes one part's two files, ``CHUNK_ROWS`` at a time."""

    def __init__(self, part: Part, columns: list[str], ref_column: str, stack: ExitStack) -> None:
        self._part = part
        self._has_reference = bool(ref_column)
        self._phone_at = columns.index(PHONE_COLUMN)
        self._names = [name for name in columns if name != PHONE_COLUMN]
        self._upload, self._copy = (
            csv.writer(stack.enter_context(Path(path).open("w", encoding="utf-8", newline="")))  # noqa: SIM115
            for path in (part.upload_path, part.copy_path)
        )
        self._upload.writerow([*columns, ref_column] if ref_column else columns)
        self._upload_rows: list[list[str]] = []
        self._copy_rows: list[tuple[int, int, str, str]] = []
        self.count = 0

    def add(self, row: list[str]) -> None:
        self.count += 1
        cells = row.copy()
        phone = cells.pop(self._phone_at)
        parameters = msgspec.json.encode(dict(zip(self._names, cells, strict=True))).decode()
        self._copy_rows.append((self._part.batch_key, self.count, phone, parameters))
        if self._has_reference:
            row.append(f"{self._part.ref_token}-{self.count}")
        self._upload_rows.append(row)
        if len(self._upload_rows) >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        self._upload.writerows(self._upload_rows)
        self._copy.writerows(self._copy_rows)
        self._upload_rows.clear()
        self._copy_rows.clear()


def main() -> None:
    """The program. Nothing of the file reaches standard error, so an unexpected error ends it without a word."""
    os.nice(10)
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    try:
        _write(Message(report=check_file(task, lambda rows: _write(Message(progress=rows)))))
    except InvalidRequestError as error:
        _write(Message(refused=error.message))
    except Exception:
        os._exit(1)
    os._exit(0)  # a normal exit would wait for the thread, which holds standard input's lock


def _end_with_caller() -> None:
    os.read(0, 1)  # no more input comes: this returns when the caller closes it or dies
    os._exit(1)


def _write(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
