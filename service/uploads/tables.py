"""Tables: the rows of a contacts file without what is empty, under the columns as they go out.

Blank lines and rows, and columns without a name and content, are left out and counted. Whatever the phone column is
called in the file, it goes out as ``customer_phone``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from service.counts import count
from service.spelling import reduce
from service.uploads.guarding import unguard
from service.uploads.headers import (
    LONG_NUMBER,
    check_names,
    clean,
    count_digits,
    find_header,
    find_phone_column,
    to_letters,
)
from service.uploads.report import ERROR_COLUMN, PHONE_COLUMN, ContactsOptions, FileReading
from service.uploads.rows import NAMED_DELIMITERS, Rows
from service.uploads.swallowed import find_swallowed_rows

MAX_NOTE_CELLS = 2
MAX_BROKEN_CHARACTERS = 1000
"""Of a line that is no CSV, as it is given back."""
REPEATS = "repeats line "
_MARK = re.compile(r"\(to correct: ([^;]{1,60}); then empty this cell\)")
_SHEET_ERROR = re.compile(
    r"#[¡¿]?[\w/.]{1,30}[!?]|#{2,}|ERR:5[0-9]{2}|#(?:N/A|N/V|N/B|N/D|N/F|NV|Н/Д|I/T|YOK|Δ/Υ|PUUTTUU|SAKNAS|HIÁNYZIK"
    r"|NENÍ_K_DISPOZICI|NEDOSTUPNÝ|GETTING_DATA|DATEN_ABRUFEN|CHARGEMENT_DONNEES|OBTENIENDO_DATOS)"
)
"""A failed formula, in any language and in capitals, or a number that its column was too narrow for."""
SHEET_REMEDY = "correct the cell's formula, its format or the width of its column, and export again"
EMPTY_WORDS = frozenset({
    "NULL", "null", "(null)", "<null>", "[NULL]", "\\N", "NaN", "nan", "None", "<NA>", "NaT", "N/A", "n/a", "undefined",
})  # fmt: skip
"""What databases and programs write for an empty cell. Not ``Null``, which is a name."""


class RowError(Exception):
    """Why a row cannot become a recipient; ``value`` is masked."""

    def __init__(self, kind: str, problem: str, remedy: str, column: str | None = None, value: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.problem = problem
        self.remedy = remedy
        self.column = column
        self.value = value


def is_sheet_error(cell: str) -> bool:
    """Whether a cell holds what a spreadsheet shows where there is no value: ``#REF!``, ``####``, ``Err:502``."""
    text = cell.strip()
    is_shouted = text == text.upper() or text.startswith("Err:")
    return is_shouted and _SHEET_ERROR.fullmatch(text.upper()) is not None


def explain_mark(kind: str) -> str:
    """The content of a cell without a column, which makes its row an error until somebody has corrected it."""
    return f"(to correct: {kind}; then empty this cell)"


def has_mark(cells: Iterable[str]) -> bool:
    """Whether a cell holds a mark, whatever column it has come to stand in."""
    return any(map(_MARK.search, cells))


def _is_error_column(name: str) -> bool:
    return reduce(name) == reduce(ERROR_COLUMN)


class Table:
    """The columns of a file as they go out, and its rows. Call ``next_row`` until it returns None, then ``close``.

    Raises InvalidRequestError for a file without a usable header.
    """

    def __init__(self, path: Path, options: ContactsOptions) -> None:
        header = find_header(path, options)
        if options.drops_errors and any(map(_is_error_column, header.names)):
            header = header._replace(names=[*map(unguard, header.names)])
        phone_at = find_phone_column(path, header, options)
        names = [PHONE_COLUMN if at == phone_at else name for at, name in enumerate(header.names)]
        check_names(names, header.line, options)
        self._width = len(names)
        self._nameless = [at for at, name in enumerate(names) if not name]
        self._named_width = max(at for at, name in enumerate(names) if name) + 1
        self._errors = [name for name in names if options.drops_errors and _is_error_column(name)]
        dropped = {*self._nameless, *map(names.index, self._errors)}
        self._options = options
        self._delimiter = header.dialect.delimiter
        self._kept = [at for at in range(len(names)) if at not in dropped]
        self.columns = [names[at] for at in self._kept]
        self.names = [header.names[at] for at in self._kept]
        """The same columns as the file names them."""
        self.phone_at = self.columns.index(PHONE_COLUMN)
        self.empty_rows = 0
        self._row_count = 0
        self._first_count: int | None = None
        """Where the counter of rows in a nameless first column begins; None where there is none."""
        self._encoding = header.dialect.encoding
        self._guessed: str | None = None
        self._empty_words = 0
        self._first_empty_word = ""
        self._is_after_blank = False
        self._rows = Rows(path, header.dialect)
        self._raw: list[str] = []
        self.text = ""
        """The last row's cells in one text."""
        self._rows.next_row()
        while self._rows.line < header.line:
            self._rows.next_row()

    @property
    def empty_columns(self) -> int:
        """Columns without a name and content."""
        return len(self._nameless) - (self._first_count is not None)

    @property
    def is_given_back(self) -> bool:
        """Whether it holds rows that an upload left out before."""
        return bool(self._errors)

    @property
    def line(self) -> int:
        """The line on which the last row began."""
        return self._rows.line

    def next_row(self) -> list[str] | None:
        """The cells of the next row that is not empty; None at the end.

        Raises csv.Error or RowError for a row that cannot be used; the next call reads the one after it.
        """
        while True:
            self._raw = []
            row = self._rows.next_row()
            if row is None:
                return None
            self._raw = row = [*map(unguard, row)] if self._errors else row  # see guard
            self.text = "".join(row)
            if self.text.strip() if self.text.isascii() else any(map(clean, row)):
                break
            self.empty_rows += 1
            self._is_after_blank = True
        self._row_count += 1
        if self._row_count == 1 and self._nameless[:1] == [0] and clean(row[0]) in {"0", "1"}:
            self._first_count = int(clean(row[0]))
        self._refuse_mark(row)
        if len(row) != self._width:
            row = self._fit(row)
        elif self._is_after_blank:
            self._refuse_padded_note(row)
            self._is_after_blank = False
        if self._encoding.is_guessed and self._guessed is None and not self.text.isascii():
            self._note_guess(row)
        for at in self._nameless:
            if (cell := clean(row[at])) and not (at == 0 and self._is_counter(cell)):
                raise RowError(
                    "nameless", f"has a cell in column {at + 1} ({to_letters(at)}), which has no name",
                    "name the column in the header, or remove the cell",
                )  # fmt: skip
        if "\n" in self.text or "\r" in self.text:
            self._refuse_swallowed_rows(row)
        kept = row if len(self._kept) == self._width else [row[at] for at in self._kept]
        if "#" in self.text or "Err:" in self.text:
            self._refuse_sheet_errors(kept)
        if not EMPTY_WORDS.isdisjoint(kept):
            self._note_empty_words(kept)
        return kept

    def give_back(self, error: str, kind: str) -> list[str]:
        """The last row as it came, with the error behind its columns. Cells that have no column stand at its end, and
        so does a word where nothing else would show that the row is still to be corrected."""
        if kind == "csv":  # nobody knows its cells
            self._raw = [""] * self._width
            self._raw[self._kept[0]] = self._rows.first_line.rstrip("\r\n")[:MAX_BROKEN_CHARACTERS]
        padded = self._raw + [""] * (self._width - len(self._raw))
        rest = [cell for at in self._nameless if (cell := padded[at]) and not (at == 0 and self._is_counter(cell))]
        rest += padded[self._width :]
        kept = [padded[at] for at in self._kept]
        if kind in {"cells", "quote", "csv"} and not any(map(clean, rest)):
            rest = [explain_mark(kind)]
        elif kind == "marked" and not has_mark([*kept, *rest]):  # it stands in the column of errors
            rest += filter(_MARK.search, padded)
        return [*kept, error, *rest]

    def list_phone_cells(self, kind: str) -> list[str]:
        """The cells of the last row that may hold its phone: all, where they may stand under the wrong columns."""
        at = self._kept[self.phone_at]
        return self._raw[at : at + 1] + (self._raw if kind in {"cells", "quote", "marked"} else [])

    def describe_reading(self) -> FileReading:
        """How the file was read. A workbook has been written as CSV before."""
        is_sheet = self._options.workbook is not None
        return FileReading(
            phone_column=self.names[self.phone_at],
            region=self._options.region or None,
            encoding=None if is_sheet else self._encoding.code,
            is_encoding_guessed=self._encoding.is_guessed,
            delimiter=None if is_sheet else NAMED_DELIMITERS.get(self._delimiter),
            sheet=self._options.workbook.sheet if self._options.workbook else None,
            sheets=self._options.workbook.sheets if self._options.workbook else [],
        )

    def list_warnings(self) -> list[str]:
        """What a person should check, though the file was read."""
        warnings = []
        if self._encoding.is_guessed:
            example = f", such as {self._guessed}" if self._guessed else ""
            warnings.append(
                f"The file does not say how its letters are encoded; it was read as {self._encoding.name}. "
                f"Check the letters outside A to Z{example}"
            )
        warnings += [f"The column {name!r} says why rows were given back; it is left out" for name in self._errors]
        if self._first_count is not None:
            warnings.append("The first column (A) has no name and counts the rows; it is left out")
        if self._empty_words:
            cells = count(self._empty_words, "cell")
            warnings.append(
                f"{cells} with a word for nothing, sent like any other: the first is {self._first_empty_word}"
            )
        return warnings

    def close(self) -> None:
        self._rows.close()

    def _fit(self, row: list[str]) -> list[str]:
        if len(row) > self._width and not any(map(clean, row[self._width :])):
            return row[: self._width]
        if self._named_width <= len(row) < self._width:
            return row + [""] * (self._width - len(row))
        problem = f"has {count(len(row), 'cell')}, the header {self._width}"
        filled = sum(bool(clean(cell)) for cell in row)
        is_text_alone = filled <= MAX_NOTE_CELLS and count_digits(self.text) < LONG_NUMBER
        if len(row) < self._width and is_text_alone and (self._is_after_blank or len(row) == 1):
            raise RowError("note", f"{problem}: it seems to be a note", "remove the notes, or send invalid=skip")
        raise RowError("cells", problem, "quote cells that hold the delimiter")

    def _is_counter(self, cell: str) -> bool:
        """Whether a cell of the nameless first column counts the rows from 0 or 1, as data frames write it."""
        return self._first_count is not None and cell == str(self._first_count + self._row_count - 1)

    def _refuse_mark(self, row: list[str]) -> None:
        """Refuses a row that was given back and still has its mark, also where a column was named for it."""
        mark = _MARK.search(self.text) if "(to correct: " in self.text and has_mark(row) else None
        if mark is None:
            return
        what = mark[1]
        if what.startswith(REPEATS):
            raise RowError("marked", f"{what} of the file before", "correct the phone, then empty the cell")
        if what == "duplicate":
            raise RowError("marked", "repeats a row of the file before", "correct the phone, then empty the cell")
        raise RowError("marked", "is marked as not corrected yet", "correct the row, then empty the cell")

    def _refuse_swallowed_rows(self, row: list[str]) -> None:
        phone_at = self._kept[self.phone_at]
        at = find_swallowed_rows(row, phone_at, self._named_width, self._options.region, self._delimiter)
        if at is not None:
            name = self.names[self._kept.index(at)] if at in self._kept else None
            problem = "a quote seems to be missing: this cell holds whole rows"
            raise RowError("quote", problem, "correct the quotes, or export the file again", name)

    def _refuse_padded_note(self, row: list[str]) -> None:
        """Refuses a row of a sheet that holds one cell, which is no phone, below an empty row."""
        filled = [cell for cell in row if clean(cell)]
        if len(filled) == 1 < self._width - 1 and count_digits(row[self._kept[self.phone_at]]) < LONG_NUMBER:
            raise RowError(
                "note",
                "has one cell below an empty row: it seems to be a note",
                "remove the notes, or send invalid=skip",
            )  # fmt: skip

    def _refuse_sheet_errors(self, row: list[str]) -> None:
        for at, cell in enumerate(row):
            if at != self.phone_at and is_sheet_error(cell):  # there it is no phone
                problem = "holds an error of a spreadsheet instead of a value"
                raise RowError("sheet_error", problem, SHEET_REMEDY, self.names[at], cell.strip()[:20])

    def _note_empty_words(self, row: list[str]) -> None:
        for name, cell in zip(self.names, row, strict=True):
            if cell in EMPTY_WORDS:
                self._first_empty_word = self._first_empty_word or f"{cell} in column {name!r} on line {self.line}"
                self._empty_words += 1

    def _note_guess(self, row: list[str]) -> None:
        for at, cell in enumerate(row):
            if not cell.isascii():
                self._guessed = f"column {to_letters(at)} on line {self.line}"
                return
