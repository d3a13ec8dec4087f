"""What a check writes: the files of an upload, and the rows that are given back."""

import csv
import io
import re
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from service.uploads.guarding import guard
from service.uploads.report import PHONE_COLUMN, Part, Rejected
from service.uploads.rows import LOST
from service.uploads.tables import REPEATS, explain_mark, has_mark

CHUNK_ROWS = 2000
MAX_ROW_CHARACTERS = 2**31 - 1
REPEAT_REMEDY = "correct the phone, or leave the row out"
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class RejectedWriter:
    """Writes rows that are not called as they came, each with the reason, so that they can be corrected and uploaded:
    those with errors, and apart from them those whose person another row has. Uploaded as they are, the latter would
    call the person twice, so each holds a mark that makes it an error until somebody removes it.

    A broken letter or NUL becomes U+FFFD, which is an error until somebody writes the letter again.
    """

    def __init__(self, rejected: Rejected, stack: ExitStack) -> None:
        self._path = Path(rejected.copy_path)
        self._file = stack.enter_context(self._path.open("w", encoding="utf-8", newline=""))
        self._rows = csv.writer(self._file)
        self._batch_key = rejected.batch_key
        self._count = 0
        self._numbers, self._phones = array("q"), array("q")

    def add(self, row: list[str], phones: set[int]) -> None:
        """``phones``: those of the row's person, as far as they can be read."""
        self._count += 1
        line = write_line([guard(_UNWRITABLE.sub(LOST, cell)) for cell in row])
        self._rows.writerow((self._batch_key, self._count, line, False))
        for phone in phones:
            self._numbers.append(self._count)
            self._phones.append(phone)

    def finish(self, called: Mapping[int, int], error_at: int) -> None:
        """Marks the rows whose person another row has. ``called``: the line that has a phone. ``error_at``: the place
        of the error in a row."""
        found = zip(self._numbers, self._phones, strict=True)
        repeats = {number: called[phone] for number, phone in found if phone in called}
        self._file.flush()
        if not repeats:
            return
        kept = self._path.with_suffix(".kept")
        with (
            self._path.open(encoding="utf-8", newline="") as source,
            kept.open("w", encoding="utf-8", newline="") as target,
        ):
            csv.field_size_limit(MAX_ROW_CHARACTERS)
            rows = csv.writer(target)
            for batch_key, number, line, _ in csv.reader(source):
                first_line = repeats.get(int(number))
                kept_line = line if first_line is None else _mark_repeat(line, first_line, error_at)
                rows.writerow((batch_key, number, kept_line, first_line is not None))
        kept.replace(self._path)


def explain_repeat(first_line: int) -> str:
    return f"has the phone of line {first_line} again"


def _mark_repeat(line: str, first_line: int, error_at: int) -> str:
    cells = next(csv.reader(io.StringIO(line, newline="")))
    if explain_repeat(first_line) not in cells[error_at]:
        cells[error_at] += f"; {explain_repeat(first_line)}: {REPEAT_REMEDY}"
    return write_line(cells if has_mark(cells) else [*cells, explain_mark(f"{REPEATS}{first_line}")])


def write_line(cells: list[str]) -> str:
    """A line of a CSV with its line end."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


class PartWriter:
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
