"""XLSX from the server's CSV, written as the rows arrive: memory holds a few hundred rows, whatever the file's size.

Phones, ids and every other text are text cells, which no spreadsheet runs as formulas. Numbers and times are cells of
their own kind; times have no zone in a spreadsheet, so a second sheet names it, with the instant and the verdict. A
cell holds at most 32,767 characters: longer text is cut and ends with a mark.

ECMA-376 part 1: 18.3 (sheets), 18.8 (styles), 22.9.2.19 (``_x0008_``, characters that XML cannot hold).
"""

import asyncio
import csv
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape, quoteattr

import msgspec

from service.exports.formats import CSV, JSON_VALUE, Column, Outbox, QueryFormat

MAX_ROWS = 1_048_575
"""A sheet's, without the header."""
MAX_CHARACTERS = 32_767
CUT_MARK = "…[cut]"
SLICE_BYTES = 2**17  # of CSV, converted at once in a thread
LARGE_ROWS = 100_000
"""A sheet of more rows may pass 2 GiB before compression, which takes ZIP64; some readers dislike it in small files."""

_NUMBERS = {"integer", "bigint", "numeric"}
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")
_DAY_ZERO = datetime(1899, 12, 30).toordinal()
_FIRST_DAY = datetime(1900, 3, 1).toordinal()
"""Spreadsheets count a 29 February 1900; from here on their days are those of the calendar."""
_HEADER_STYLE, _TIME_STYLE, _TEXT_STYLE, _DAY_STYLE = 1, 2, 3, 4
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_SHEETS = (1, 2)
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_CONTENT}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_CONTENT}.styles+xml"/>'
    + "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{_CONTENT}.worksheet+xml"/>' for n in _SHEETS
    )
    + "</Types>",
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    + "".join(
        f'<Relationship Id="rId{n}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in _SHEETS
    )
    + f'<Relationship Id="rId3" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">'
    '<numFmts count="2"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd hh:mm:ss"/>'
    '<numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd"/></numFmts>'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs><cellXfs count="5">'
    '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="165" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}


class XlsxEncoder:
    """Converts the server's CSV to XLSX. ``about`` fills the second sheet, ``rows`` is the most that may come."""

    query_format: QueryFormat = "xlsx"
    copy_options = CSV

    def __init__(self, columns: Sequence[Column], name: str, about: Mapping[str, str], rows: int) -> None:
        self._columns = columns
        self._cells = [(_name_column(place), _choose_cell(column)) for place, column in enumerate(columns)]
        self._name = name
        self._about = about
        self._is_large = rows > LARGE_ROWS
        self._outbox = Outbox()
        self._zip = zipfile.ZipFile(self._outbox, "w", zipfile.ZIP_DEFLATED, compresslevel=3)
        self._row = 1
        self._slice: list[bytes] = []
        self._slice_bytes = 0

    def begin(self) -> bytes:
        sheets = "".join(
            f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>'
            for n, name in zip(_SHEETS, (self._name, "about"), strict=True)
        )
        workbook = f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{sheets}</sheets></workbook>'
        parts = {**_PARTS, "xl/workbook.xml": workbook, "xl/worksheets/sheet2.xml": self._list_about()}
        for path, text in parts.items():
            self._zip.writestr(path, f"{_XML}{text}")
        self._sheet = self._zip.open("xl/worksheets/sheet1.xml", "w", force_zip64=self._is_large)
        names = [column.name for column in self._columns]
        header = "".join(
            _write_text(letters, 1, name, _HEADER_STYLE) for (letters, _), name in zip(self._cells, names, strict=True)
        )
        widths = "".join(
            f'<col min="{n}" max="{n}" width="{22 if column.type.startswith("timestamp") else 18}" customWidth="1"/>'
            for n, column in enumerate(self._columns, 1)
        )
        self._sheet.write(
            f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
            f'<cols>{widths}</cols><sheetData><row r="1">{header}</row>'.encode()
        )
        return self._outbox.take()

    async def encode(self, rows: bytes) -> bytes:
        self._slice.append(rows)
        self._slice_bytes += len(rows)
        if self._slice_bytes >= SLICE_BYTES:
            await asyncio.to_thread(self._write_slice)
        return self._outbox.take()

    async def end(self) -> bytes:
        await asyncio.to_thread(self._write_slice)
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()
        self._zip.close()
        return self._outbox.take()

    def _write_slice(self) -> None:
        text = b"".join(self._slice).decode()
        self._slice, self._slice_bytes = [], 0
        written: list[str] = []
        for values in csv.reader(io.StringIO(text, newline="")):
            self._row += 1
            row = self._row
            cells = [
                write(letters, row, value) for (letters, write), value in zip(self._cells, values, strict=True) if value
            ]
            written.append(f'<row r="{row}">{"".join(cells)}</row>')
        self._sheet.write("".join(written).encode())

    def _list_about(self) -> str:
        rows = "".join(
            f'<row r="{row}">{_write_text("A", row, name, _HEADER_STYLE)}{_write_text("B", row, value)}</row>'
            for row, (name, value) in enumerate(self._about.items(), 1)
        )
        width = '<cols><col min="1" max="2" width="36" customWidth="1"/></cols>'
        return f'<worksheet xmlns="{_MAIN}">{width}<sheetData>{rows}</sheetData></worksheet>'


def _choose_cell(column: Column) -> Callable[[str, int, str], str]:
    """What writes a cell of that column, from its letters, its row and the server's text."""
    if column.type.startswith("timestamp"):
        return _write_time
    if column.type == "date":
        return _write_day
    if column.type == "boolean":
        return _write_boolean
    if column.type == JSON_VALUE:
        return _write_json
    if column.type in _NUMBERS and not column.name.endswith("_id"):  # ids may have more digits than a cell keeps
        return _write_number
    return _write_text


def _write_text(letters: str, row: int, text: str, style: int = _TEXT_STYLE) -> str:
    if len(text) > MAX_CHARACTERS // 2:
        text = _cut(text)
    safe = escape(_UNSAFE.sub(_spell, text))
    return f'<c r="{letters}{row}" s="{style}" t="inlineStr"><is><t xml:space="preserve">{safe}</t></is></c>'


def _write_number(letters: str, row: int, text: str) -> str:
    return f'<c r="{letters}{row}"><v>{text}</v></c>'


def _write_boolean(letters: str, row: int, text: str) -> str:
    return f'<c r="{letters}{row}" t="b"><v>{int(text == "true")}</v></c>'


def _write_time(letters: str, row: int, text: str) -> str:
    """The server's time, in the zone in which the server shows it."""
    moment = datetime.fromisoformat(text)
    if moment.toordinal() < _FIRST_DAY:
        return _write_text(letters, row, text)
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    days = moment.toordinal() - _DAY_ZERO + seconds / 86400
    return f'<c r="{letters}{row}" s="{_TIME_STYLE}"><v>{days:.10f}</v></c>'


def _write_day(letters: str, row: int, text: str) -> str:
    day = date.fromisoformat(text).toordinal()
    if day < _FIRST_DAY:
        return _write_text(letters, row, text)
    return f'<c r="{letters}{row}" s="{_DAY_STYLE}"><v>{day - _DAY_ZERO}</v></c>'


def _write_json(letters: str, row: int, text: str) -> str:
    """A text, a number, or true and false as such; anything else as its JSON, null as nothing."""
    if text.startswith('"'):
        return _write_text(letters, row, msgspec.json.decode(text, type=str))
    if text in {"true", "false"}:
        return _write_boolean(letters, row, text)
    if _NUMBER.fullmatch(text) and sum(map(str.isdigit, text)) <= 15:
        return _write_number(letters, row, text)
    return "" if text == "null" else _write_text(letters, row, text)


def _cut(text: str) -> str:
    """The text in as many UTF-16 units as a cell holds."""
    encoded = text.encode("utf-16-le")
    if len(encoded) <= 2 * MAX_CHARACTERS:
        return text
    return encoded[: 2 * (MAX_CHARACTERS - len(CUT_MARK))].decode("utf-16-le", "ignore") + CUT_MARK


def _spell(match: re.Match[str]) -> str:
    return f"_x{ord(match[0]):04X}_"


def _name_column(place: int) -> str:
    """The letters of a column, from 0: A, …, Z, AA, …"""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
