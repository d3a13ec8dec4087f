"""Workbooks (.xlsx): a sheet is written as CSV, with each cell as a person sees it, before anything else reads it.

This runs in the check's own process. What a workbook unpacks to is bounded before it is read: ``zipfile`` never returns
more of a member than the archive's directory declares.
"""

import csv
import itertools
import re
import resource
import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

import msgspec

from service.counts import count
from service.errors import InvalidRequestError
from service.uploads.number_formats import show_number

MAX_SHEET_BYTES = 2**30
MAX_OTHER_BYTES = 200 * 2**20
"""Of each member that is held in memory, such as the texts."""
PROGRESS_ROWS = 20_000
MAX_MEMORY_BYTES = 2**30
MAX_SECONDS = 120
_COUNTED = re.compile(
    rb'(<(?:\w+:)?row\b[^>]*?\bhidden="(?:1|true)")'
    rb'|(<(?:\w+:)?col\b[^>]*?\bhidden="(?:1|true)")'
    rb"|(<(?:\w+:)?mergeCell\b)"
    rb'|(<(?:\w+:)?c\b(?![^>]*\bt="str")[^>]*>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*'
    rb"(?:<(?:\w+:)?v>\s*</(?:\w+:)?v>|<(?:\w+:)?v\s*/>)?\s*</(?:\w+:)?c>)"
)
"""Hidden rows, hidden columns, merged cells, and formulas without the value that they had when the sheet was saved."""
_LONGEST = 2**15
"""Bytes of one of these."""


class Conversion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A workbook to write as CSV. ``sheet`` "" takes the first one that is not hidden."""

    path: str
    target: str
    sheet: str = ""


def convert_workbook(task: Conversion, on_progress: Callable[[int], None]) -> list[str]:
    """Writes a sheet as CSV; returns what a person should know. Raises InvalidRequestError for a workbook that cannot
    be read, or without such a sheet."""
    import openpyxl  # 30 MB that a check of a CSV does not load

    _check_size(Path(task.path))
    refusal = InvalidRequestError(
        "file: is an Excel workbook that cannot be read: open it in a spreadsheet, and save it as CSV UTF-8"
    )
    try:
        with Path(task.path).open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that do not matter here
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                return _convert(book, task, on_progress)
            finally:
                book.close()
    except InvalidRequestError as error:
        refusal = error
    except Exception:  # noqa: S110 the library raises whatever a damaged member leads to
        pass
    raise refusal  # outside the except block, where what filled the memory is free again


def bound_process() -> None:
    """Bounds what this process takes, since a small workbook may unpack to elements without end. Beyond that the
    workbook is refused like a damaged one."""
    for kind, limit in ((resource.RLIMIT_DATA, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, MAX_SECONDS)):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    signal.signal(signal.SIGXCPU, _end_late)


def _end_late(_: int, __: object) -> None:
    raise TimeoutError


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            is_sheet = member.filename.lower().startswith("xl/worksheets/")
            if member.file_size > (MAX_SHEET_BYTES if is_sheet else MAX_OTHER_BYTES):
                raise InvalidRequestError(
                    "file: is an Excel workbook that unpacks to more than can be read: save the sheet as CSV UTF-8"
                )


def _convert(book: Any, task: Conversion, on_progress: Callable[[int], None]) -> list[str]:
    sheet = _choose_sheet(book, task.sheet)
    notes = []
    others = [other.title for other in book.worksheets if other is not sheet]
    if others and not task.sheet:
        number = len(others) + 1
        notes.append(f"The workbook has {number} sheets; {sheet.title!r} is read. For another, send sheet=NAME")
    rows, columns, merged, formulas = _count_in_sheet(task.path, sheet)
    if formulas:
        raise InvalidRequestError(
            f"file: the sheet {sheet.title!r} has {count(formulas, 'formula')} without a value: open the workbook in a "
            "spreadsheet, and save it"
        )
    if rows:
        hidden = count(rows, "hidden row")
        notes.append(
            f"The sheet has {hidden}, read like the others: delete what a filter has hidden, if it is not meant"
        )
    if columns:
        notes.append("The sheet has hidden columns, read like the others: delete them, if they are not meant")
    if merged:
        areas = count(merged, "merged cell")
        notes.append(f"The sheet has {areas}: their text is read in the first cell of each alone")
    sheet.reset_dimensions()  # what the file claims may be wrong
    with Path(task.target).open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        width = 0
        for number, cells in enumerate(_list_rows(sheet), start=1):
            if number % PROGRESS_ROWS == 0:
                on_progress(number)
            row = [_show(cell) for cell in cells]
            while row and not row[-1]:
                row.pop()
            width = width or len(row)
            # A line without a cell would be no row of its own for a reader of CSV.
            writer.writerow(row + [""] * (max(width, 1) - len(row)))
    return notes


def _choose_sheet(book: Any, name: str) -> Any:
    sheets = book.worksheets
    if name:
        found = [sheet for sheet in sheets if sheet.title.strip().casefold() == name.strip().casefold()]
        if not found:
            names = ", ".join(repr(sheet.title) for sheet in sheets[:20])
            raise InvalidRequestError(f"sheet: the workbook has no sheet {name!r}; it has {names}")
        return found[0]
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    if not visible:
        raise InvalidRequestError("file: is an Excel workbook without a sheet that is not hidden: send sheet=NAME")
    return visible[0]


def _count_in_sheet(path: str, sheet: Any) -> list[int]:
    """What the library does not show, in the order of ``_COUNTED``."""
    counts, rest = [0] * _COUNTED.groups, b""
    with zipfile.ZipFile(path) as archive, archive.open(sheet._worksheet_path) as member:
        while chunk := member.read(2**20):
            text = rest + chunk
            begin = max(0, len(text) - _LONGEST)
            for match in _COUNTED.finditer(text):
                counts[(match.lastindex or 1) - 1] += 1
                begin = max(begin, match.end())
            rest = text[begin:]
    return counts


def _list_rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    """The rows, without those at the end that hold nothing."""
    blank = 0
    for cells in sheet.iter_rows():
        if all(cell.value is None for cell in cells):
            blank += 1
            continue
        yield from itertools.repeat((), blank)
        blank = 0
        yield cells


def _show(cell: Any) -> str:
    """A cell as a spreadsheet shows it."""
    from openpyxl.utils.escape import unescape

    value = cell.value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return show_number(value, cell.number_format or "")
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(" ", "seconds" if value.second else "minutes")
    if isinstance(value, time):
        return value.isoformat("seconds" if value.second else "minutes")
    text = "" if value is None else str(value)  # a text, a date or a duration
    text = unescape(text) if "_x" in text else text
    return text.replace("\r\n", "\n").replace("\r", "\n")
