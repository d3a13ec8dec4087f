"""What a check writes: the files of an upload, and the rows that are given back."""

import csv
import io
from contextlib import ExitStack
from pathlib import Path

import msgspec

from service.uploads.report import PHONE_COLUMN, Part, Rejected

CHUNK_ROWS = 2000


class RejectedWriter:
    """Writes the rows with errors as they came, each with its error, so that they can be corrected and uploaded."""

    def __init__(self, rejected: Rejected, stack: ExitStack) -> None:
        file = stack.enter_context(Path(rejected.copy_path).open("w", encoding="utf-8", newline=""))  # noqa: SIM115
        self._rows = csv.writer(file)
        self._batch_key = rejected.batch_key
        self._count = 0

    def add(self, row: list[str]) -> None:
        self._count += 1
        line = write_line([cell.replace("\x00", "").encode("utf-8", "replace").decode() for cell in row])
        self._rows.writerow((self._batch_key, self._count, line))


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
