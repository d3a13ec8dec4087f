"""Workbooks (.xlsx): a sheet is written as CSV, with each cell as a person sees it, before anything else reads it.

This runs in the check's own process. What a workbook unpacks to is bounded before it is read: ``zipfile`` never returns
more of a member than the archive's directory declares.
"""

import csv
import itertools
import resource
import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec

from service.counts import count
from service.errors import InvalidRequestError
from service.uploads.number_formats import show_duration, show_number, show_text, shows_digits
from service.uploads.report import Workbook

MAX_SHEET_BYTES = 2**30
MAX_OTHER_BYTES = 200 * 2**20
"""Of each member that is held in memory, such as the texts."""
PROGRESS_ROWS = 20_000
MAX_MEMORY_BYTES = 2**30
MAX_SECONDS = 120
MAX_ROWS = 2**20
"""Of a sheet, in any spreadsheet."""
_TRUE = frozenset({"1", "true"})
MAX_CSV_BYTES = 100 * 2**20
MAX_CSV_GROWTH = 10
"""A sheet's CSV is longer than both only where few bytes stand for many empty cells, or one text for many cells."""


class Conversion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A workbook to write as CSV. ``sheet`` "" takes the first one that is not hidden."""

    path: str
    target: str
    sheet: str = ""


def convert_workbook(task: Conversion, on_progress: Callable[[int], None]) -> Workbook:
    """Writes a sheet as CSV; returns what it was. Raises InvalidRequestError for a workbook that cannot
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


def _convert(book: Any, task: Conversion, on_progress: Callable[[int], None]) -> Workbook:
    sheet = _choose_sheet(book, task.sheet)
    notes = []
    others = [other.title for other in book.worksheets if other is not sheet]
    if others and not task.sheet:
        number = len(others) + 1
        notes.append(f"The workbook has {number} sheets; {sheet.title!r} is read. For another, send sheet=NAME")
    counted = _Counted()
    with zipfile.ZipFile(task.path) as archive, archive.open(sheet._worksheet_path) as member:
        counted.read(member)
        size = archive.getinfo(sheet._worksheet_path).file_size
    if counted.formulas:
        raise InvalidRequestError(
            f"file: the sheet {sheet.title!r} has {count(counted.formulas, 'formula')} without a value: open the "
            "workbook in a spreadsheet, and save it"
        )
    if counted.rows or counted.hides_rows:
        hidden = "hidden rows" if counted.hides_rows else count(counted.rows, "hidden row")
        notes.append(
            f"The sheet has {hidden}, read like the others: delete what a filter has hidden, if it is not meant"
        )
    if counted.columns:
        notes.append("The sheet has hidden columns, read like the others: delete them, if they are not meant")
    if counted.merged:
        areas = count(counted.merged, "merged cell")
        notes.append(f"The sheet has {areas}: their text is read in the first cell of each alone")
    sheet.reset_dimensions()  # what the file claims may be wrong
    # The library's choice, without the formats that show digits.
    formats = [_find_format(book, style) for style in book._cell_styles]
    book._date_formats = {at for at in book._date_formats if not shows_digits(formats[at])}
    with Path(task.target).open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        width = 0
        rest = min(max(MAX_CSV_BYTES, MAX_CSV_GROWTH * size), MAX_SHEET_BYTES)
        for number, cells in enumerate(_list_rows(sheet), start=1):
            if number % PROGRESS_ROWS == 0:
                on_progress(number)
            row = [_show(cell) for cell in cells]
            while row and not row[-1]:
                row.pop()
            width = width or len(row)
            if row:
                row += [""] * (width - len(row))
            rest -= len(row) + sum(map(len, row)) + 1
            if rest < 0:
                raise InvalidRequestError(
                    "file: is an Excel workbook whose sheet has far more empty or repeated cells than others: delete "
                    "what is not needed, or save the sheet as CSV UTF-8"
                )
            # A blank line is a row for the reader: see Rows.
            writer.writerow(row) if row else target.write("\n")
    return Workbook(sheet.title, [other.title for other in book.worksheets], notes)


def _choose_sheet(book: Any, name: str) -> Any:
    sheets = book.worksheets
    if name:
        found = [sheet for sheet in sheets if sheet.title.strip().casefold() == name.strip().casefold()]
        if not found:
            names = ", ".join(repr(sheet.title) for sheet in sheets[:20])
            raise InvalidRequestError(
                f"sheet: the workbook has no sheet {name!r}; it has {names}",
                details={"sheets": [sheet.title for sheet in sheets]},
            )
        return found[0]
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    if not visible:
        raise InvalidRequestError("file: is an Excel workbook without a sheet that is not hidden: send sheet=NAME")
    return visible[0]


class _Counted:
    """What the library does not show of a sheet: hidden rows and columns, merged cells, and formulas without the value
    that they had when the sheet was saved. Refuses rows that the library would leave out or never finish."""

    def __init__(self) -> None:
        self.rows = self.columns = self.merged = self.formulas = 0
        self.hides_rows = False
        """Whether all rows without a height are hidden."""
        self._row = 0
        self._is_text = self._is_formula = self._has_value = self._is_extension = False
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.StartDoctypeDeclHandler = _refuse_doctype

    def read(self, member: Any) -> None:
        self._parser.ParseFile(member)
        self._end_cell()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2]
        if self._is_formula:
            self._parser.CharacterDataHandler = None
        if kind == "c":
            self._end_cell()
            self._is_text = attributes.get("t") == "str"
            self._has_value = self._is_extension = False
        elif kind == "f":
            self._is_formula = not self._is_extension
        elif kind == "v":
            if self._is_formula:
                self._has_value = self._has_value or self._is_text  # a text may be empty
                self._parser.CharacterDataHandler = self._read_value
        elif kind == "row":
            self._end_cell()
            self._count_row(attributes)
        elif kind == "col":
            self.columns += _is_hidden(attributes, "width")
        elif kind == "sheetFormatPr":
            self.hides_rows = attributes.get("zeroHeight") in _TRUE
            self.columns += _is_hidden(attributes, "defaultColWidth")
        elif kind == "mergeCell":
            self.merged += 1
        elif kind == "extLst":
            self._end_cell()
            self._is_extension = True  # its formulas are of other things than cells

    def _read_value(self, text: str) -> None:
        self._has_value = self._has_value or bool(text.strip())

    def _end_cell(self) -> None:
        self.formulas += self._is_formula and not self._has_value
        self._is_formula = False

    def _count_row(self, attributes: dict[str, str]) -> None:
        number = int(attributes.get("r", self._row + 1))
        if number > MAX_ROWS:
            raise InvalidRequestError(
                f"file: is an Excel workbook with a row beyond the last one of a sheet, {MAX_ROWS}: delete it, or save "
                "the sheet as CSV UTF-8"
            )
        if number <= self._row:
            raise ValueError(number)  # the library would leave the row out
        self._row = number
        self.rows += _is_hidden(attributes, "ht")


def _is_hidden(attributes: dict[str, str], size: str) -> bool:
    return attributes.get("hidden") in _TRUE or (size in attributes and float(attributes[size]) == 0)


def _refuse_doctype(*_: object) -> None:
    raise ValueError  # no spreadsheet writes one; its entities unpack without end


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


def _find_format(book: Any, style: Any) -> str:
    from openpyxl.styles.numbers import BUILTIN_FORMATS, BUILTIN_FORMATS_MAX_SIZE

    at = style.numFmtId
    custom = book._number_formats
    if at < BUILTIN_FORMATS_MAX_SIZE:
        return BUILTIN_FORMATS.get(at, "General")
    return custom[at - BUILTIN_FORMATS_MAX_SIZE] if at - BUILTIN_FORMATS_MAX_SIZE < len(custom) else "General"


def _show(cell: Any) -> str:
    """A cell as a spreadsheet shows it."""
    from openpyxl.utils.escape import unescape

    value = cell.value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return show_number(value, cell.number_format or "")
    if isinstance(value, timedelta):
        return show_duration(value, cell.number_format or "")
    if isinstance(value, datetime | time):
        return _show_time(value)
    text = "" if value is None else str(value)  # a text or a date
    text = unescape(text) if "_x" in text else text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return show_text(text, cell.number_format or "") if text and cell.data_type == "s" else text


def _show_time(value: datetime | time) -> str:
    precision = "seconds" if value.second else "minutes"
    if isinstance(value, time):
        return value.isoformat(precision)
    return value.date().isoformat() if value.time() == time() else value.isoformat(" ", precision)
