"""Workbooks are read as a person sees them, within bounds; another kind of file is named."""

import csv
import io
import subprocess
import sys
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import msgspec
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.uploads.checking import Message
from service.uploads.kinds import is_workbook
from service.uploads.number_formats import show_number, show_text
from service.uploads.report import ContactsOptions, Workbook
from service.uploads.workbooks import Conversion, convert_workbook
from tests.uploads.checked import check

ASHA, RAVI = "+919876543210", "+919876543211"


def convert(path: Path, sheet: str = "") -> tuple[list[list[str]], list[str]]:
    target = path.with_suffix(".out")
    notes = convert_workbook(Conversion(path=str(path), target=str(target), sheet=sheet), lambda _: None).notes
    return list(csv.reader(io.StringIO(target.read_text("utf-8"), newline=""))), notes


def save(path: Path, rows: list[list[Any]], formats: dict[str, str] | None = None) -> Path:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(row)
    for place, number_format in (formats or {}).items():
        sheet[place].number_format = number_format
    book.save(path)
    return path


def test_cells_of_a_workbook_are_written_as_a_person_sees_them(tmp_path: Path) -> None:
    cells: dict[Any, str] = {
        919876543210: "919876543210", 9198765432100.0: "9198765432100", 29000.0: "29000", 0.1: "0.1", 1e-7: "0.0000001",
        date(2026, 3, 16): "2026-03-16", datetime(2026, 3, 16, 14, 30): "2026-03-16 14:30", time(9, 5): "09:05",
        "+919876543210": "+919876543210", "  x ": "  x ", "=": "=", "two\nlines": "two\nlines", "#N/A": "#N/A",
        "a_x000D_b": "a\nb", "a_x005F_x000D_b": "a_x000D_b",
    }  # fmt: skip
    rows, notes = convert(save(tmp_path / "a.xlsx", [["header"], *([value] for value in cells), [True], [None], [5]]))
    assert rows == [["header"], *([text] for text in cells.values()), ["TRUE"], [], ["5"]]
    assert notes == []


FORMATS: list[tuple[float, str, str]] = [
    (0.5, "0%", "50%"), (0.125, "0.00%", "12.50%"), (0.12345, "0.0%", "12.3%"), (5, '0"% p.a."', "5% p.a."),
    (919876543210, '"+"0', "+919876543210"), (919876543210, "+0", "+919876543210"),
    (919876543210, r"\+##", "+919876543210"),
    (919876543210, "#,##0", "919876543210"), (919876543210, "0.00E+00", "919876543210"),
    (919876543210, "0", "919876543210"),
    (5551234567, "(###) ###-####", "(555) 123-4567"), (123456789, "000-00-0000", "123-45-6789"),
    (5551234567, "[<=9999999]###-####;(###) ###-####", "(555) 123-4567"), (9876543, "0000000000", "0009876543"),
    (29000.456, "#,##0.00", "29000.46"), (29000, "#,##0.00", "29000.00"), (12.7, "0", "13"), (1.005, "0.00", "1.01"),
    (29000, '_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_)', "$29000.00"),
    (29000, r"#,##0\ [$€-407]", "29000 €"),
    (-29000, '_("$"* #,##0_);_("$"* \\(#,##0\\)', "$(29000)"), (-5, "#,##0;[Red]-#,##0", "-5"), (-5, "0", "-5"),
    (1, "0.##", "1"), (1.5, "0.##", "1.5"), (0.5, "#.0", ".5"), (3.5, "# ?/?", "3.5"), (1e6, '0.0,,"M"', "1.0M"),
    (5, ";;;", ""), (5, '"a', '"a'), (0.30000000000000004, "General", "0.3"), (41, "@", "41"), (41, "[h]:mm", "41"),
    (8012345678, r"\+1\ \(000\)\ 000\-0000", "+1 (801) 234-5678"),
    (8012345678, "+1 (000) 000-0000", "+1 (801) 234-5678"),
    (9876543210, "+9100000", "+919876543210"), (9876543210, '"+91 "00000 00000', "+91 98765 43210"),
    (5551234, r"[<=9999999]###\-####;\(###\)\ ###\-####", "555-1234"),
    (5551234567, r"[<=9999999]###\-####;\(###\)\ ###\-####", "(555) 123-4567"),
    (5, "[>5]0;0.0", "5.0"), (5, "[>=5]0;0.0", "5"), (5, "[<5]0;0.0", "5.0"), (5, "[=5]0;0.0", "5"),
    (5, "[<>5]0;0.0", "5.0"),
    (0, '[=0]"none";[=1]"one";0" of them"', "none"), (1, '[=0]"none";[=1]"one";0" of them"', "one"),
    (2, '[=0]"none";[=1]"one";0" of them"', "2 of them"), (-5, "[<100]0;0.0", "-5"), (-5, "[<0](0);0", "(5)"),
    (919876543210, '"+"General', "+919876543210"), (-5, 'General;"minus "General', "minus 5"), (5, "Standard", "5"),
    (1500, "0,", "2"), (1_500_000, "0.0,", "1500.0"), (12_345_678, "#,##0,", "12346"), (1_250_000, "0.00,,", "1.25"),
    (1, '"Yes";"Yes";"No"', "Yes"), (-1, '"Yes";"Yes";"No"', "Yes"), (0, '"Yes";"Yes";"No"', "No"), (7, '"x"', "x"),
    (0, "0;-0;;@", ""), (-3, "0;-0;;@", "-3"), (3, "0;-0;;@", "3"), (-3, "0;", ""),
    (29000, "#,##0 kr", "29000 kr"), (29000, "Rs. #,##0", "Rs. 29000"), (29000, "#,##0/-", "29000/-"),
    (5, '"Due; day "0', "Due; day 5"), (919876543210, '"+"0.00E+00', "+919876543210"), (1.5, "0.0E+0", "1.5"),
    (919876543210, "# ?/?", "#FORMAT!"), (919876543210, '"+1" # ??/100', "#FORMAT!"), (-1_000_000, "# ?/?", "#FORMAT!"),
    (999_999, "# ?/?", "999999"), (919876543210, "[DBNum1]0", "#FORMAT!"), (919876543210, "[>1e9]0", "#FORMAT!"),
    (919876543210, "[<5]0", "#FORMAT!"), (919876543210, "0" + '"a"' * 90, "#FORMAT!"), (5, "_a" * 200 + '"', "5"),
    (1e20, "General", "100000000000000000000"), (10**20, "General", "100000000000000000000"),
    (1e20, "0.00", "1" + "0" * 20 + ".00"),
    (1.5e300, "0", "15" + "0" * 299), (123456789012345678, "General", "123456789012345678"), (12.5, ".00", "12.50"),
    (1e-20, "General", "0.00000000000000000001"), (-0.0, "General", "0"), (5, "0.0.0", "5.0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "number_format", "shown"), FORMATS)
def test_a_number_is_shown_by_its_format_with_all_its_digits(value: float, number_format: str, shown: str) -> None:
    assert show_number(value, number_format) == shown


TEXTS = [
    ("Rao", '"Mr. "@', "Mr. Rao"), ("Rao", '0;-0;0;"Mr. "@', "Mr. Rao"), ("Rao", ";;;", ""), ("Rao", "0;-0;;@", "Rao"),
    ("Rao", "0;-0", "Rao"), ("Rao", "General", "Rao"), ("Rao", '0;0;0;"a text"', "a text"),
    ("9876543210", '"+91"@', "+919876543210"),
    ("Rao", "# ?/?", "Rao"), ("Rao", "[h]:mm", "Rao"), ("Rao", '0;"Mr. "@', "Mr. Rao"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number_format", "shown"), TEXTS)
def test_a_text_is_shown_by_the_formats_section_for_texts(text: str, number_format: str, shown: str) -> None:
    assert show_text(text, number_format) == shown


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    number=st.integers(-(10**15) + 1, 10**15 - 1),
    before=st.sampled_from(["", "+", "EUR ", "a;b", "\\", "0", "%"]),
    zeros=st.integers(1, 12),
    decimals=st.integers(0, 4),
)
def test_no_format_loses_a_digit_of_an_integer(number: int, before: str, zeros: int, decimals: int) -> None:
    number_format = (f'"{before}"' if before else "") + "0" * zeros + ("." + "0" * decimals if decimals else "")
    sign = "-" if number < 0 else ""
    expected = f"{sign}{before}{abs(number):0{zeros}d}" + ("." + "0" * decimals if decimals else "")
    assert show_number(number, number_format) == expected.strip()


@given(
    value=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    number_format=st.text('0#?.,;%"[]_*\\ a$+-()E/', max_size=12),
)
@settings(deadline=None, derandomize=True, max_examples=1000)
def test_no_format_fails(value: float, number_format: str) -> None:
    assert isinstance(show_number(value, number_format), str)


WITHOUT_VALUE = [
    b'<c r="B1"><f>A1</f></c>', b'<c r="B1" t="str"><f>A1</f></c>', b'<c r="B1"><f><![CDATA[A1]]></f></c>',
    b'<c r="B1"><f>A1</f><!-- v --></c>', b'<c r="B1"><!-- a --><f>A1<!-- b --></f><v></v></c>', b'<c r="B1"><f/></c>',
    b'<c r="B1"><f>A1</f><extLst><ext uri="u"><v>5</v></ext></extLst></c>',
    b"<c r='B1' t='n'><f t='shared' si='0'/><v/></c>",
    b'<c r="B1"><f>A1</f><v>\n</v></c>', b'<c r="B1"><f>A1</f><v><!-- 5 --></v></c>', b'<c r="B1" t="b"><f>A1</f></c>',
    b'<x:c xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main" r="B1"><x:f>A1</x:f></x:c>',
]  # fmt: skip
WITH_VALUE = {
    b'<c r="B1"><f>A1</f><v><![CDATA[5]]></v></c>': "5", b'<c r="B1" t="str"><f>A1</f><v>x</v></c>': "x",
    b'<c r="B1" t="str"><f>A1</f><v/></c>': "",
    b'<c r="B1"><f>A1</f><v>5</v><extLst><ext uri="u"><f>A1</f></ext></extLst></c>': "5",
    b'<c r="B1"><!-- <f> --><v>5</v></c>': "5",
    b'<c r="B1" s="0"><extLst><ext uri="u"><f>A1</f></ext></extLst></c>': "",
}  # fmt: skip


def test_a_workbook_whose_formulas_were_never_calculated_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.xlsx", [["customer_phone", "due"], [ASHA, "=1+1"], [RAVI, 5]])
    with pytest.raises(InvalidRequestError, match="'Sheet' has 1 formula without a value: open the workbook"):
        convert(path)
    cells = b"".join(b'<row r="%d"><c r="A%d"><f>1+1</f></c></row>' % (n, n) for n in range(1, 60_000))
    with pytest.raises(InvalidRequestError, match=r"has 59,999 formulas without a value"):
        convert(write_sheet(tmp_path / "b.xlsx", b"<sheetData>" + cells + b"</sheetData>"))
    for cell in WITHOUT_VALUE:
        body = b'<sheetData><row r="1"><c r="A1"><v>1</v></c>' + cell + b"</row></sheetData>"
        with pytest.raises(InvalidRequestError, match=r"has 1 formula without a value"):
            convert(write_sheet(tmp_path / "d.xlsx", body))
    for cell, shown in WITH_VALUE.items():
        body = b'<sheetData><row r="1"><c r="A1"><v>1</v></c>' + cell + b"</row></sheetData>"
        assert convert(write_sheet(tmp_path / "e.xlsx", body)) == ([["1", shown] if shown else ["1"]], [])
    known = (
        b'<sheetData><row r="1"><c r="A1"><f>1+1</f><v>2</v></c><c r="B1" t="str"><f>x</f><v></v></c></row></sheetData>'
    )
    assert convert(write_sheet(tmp_path / "c.xlsx", known)) == ([["2"]], [])


def test_hidden_columns_are_reported(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["customer_phone", "old"])
    book.worksheets[0].column_dimensions["B"].hidden = True
    book.save(tmp_path / "a.xlsx")
    assert convert(tmp_path / "a.xlsx")[1] == [
        "The sheet has hidden columns, read like the others: delete them, if they are not meant"
    ]


@pytest.mark.parametrize(
    ("before", "row", "note"),
    [
        (b"", b'<row r="2" hidden="1">', "1 hidden row,"), (b"", b"<row r='2' hidden='1'>", "1 hidden row,"),
        (b"", b'<row hidden = "true" r="2">', "1 hidden row,"),
        (b"", b'<row r="2" ht="0" customHeight="1">', "1 hidden row,"),
        (b"", b"<row r='2' ht='0.0'>", "1 hidden row,"),
        (b'<sheetFormatPr zeroHeight="1"/>', b'<row r="2">', "hidden rows,"),
        (b"<cols><col min='1' max='1' hidden='1'/></cols>", b'<row r="2">', "hidden columns,"),
        (b'<cols><col min="1" max="1" width="0"/></cols>', b'<row r="2">', "hidden columns,"),
        (b'<sheetFormatPr defaultColWidth="0"/>', b'<row r="2">', "hidden columns,"),
        (b'<sheetFormatPr zeroHeight="0"/><cols><col min="1" max="1" width="9" hidden="0"/></cols>',
         b'<row r="2" ht="10" hidden="false" spans="1:1">', ""),
    ],
)  # fmt: skip
def test_what_is_hidden_is_reported_however_it_is_written(tmp_path: Path, before: bytes, row: bytes, note: str) -> None:
    cells = b'<sheetData><row r="1"><c r="A1"><v>1</v></c></row>' + row + b'<c r="A2"><v>2</v></c></row></sheetData>'
    rows, notes = convert(write_sheet(tmp_path / "a.xlsx", before + cells))
    assert rows == [["1"], ["2"]]
    assert [one.split(" read like")[0] for one in notes] == ([f"The sheet has {note}"] if note else [])


def test_rows_beyond_the_last_one_of_a_sheet_are_refused(tmp_path: Path) -> None:
    for rows in (b'<row r="20000000"><c><v>1</v></c></row>', b'<row r="1048576"/><row><c><v>1</v></c></row>'):
        with pytest.raises(InvalidRequestError, match="a row beyond the last one of a sheet, 1048576"):
            convert(write_sheet(tmp_path / "a.xlsx", b"<sheetData>" + rows + b"</sheetData>"))
    assert not (tmp_path / "a.out").exists()


def test_rows_that_do_not_follow_each_other_are_refused_since_some_would_be_left_out(tmp_path: Path) -> None:
    for second in (b"1", b"2"):
        body = (
            b'<sheetData><row r="2"><c r="A2"><v>1</v></c></row><row r="%s"><c><v>1</v></c></row></sheetData>' % second
        )
        with pytest.raises(InvalidRequestError, match="cannot be read"):
            convert(write_sheet(tmp_path / "a.xlsx", body))


def test_a_sheet_with_entities_of_its_own_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(save(tmp_path / "a.xlsx", [["customer_phone"], [ASHA]])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    assert convert(write_archive(tmp_path / "b.xlsx", members))[0] == [["customer_phone"], [ASHA]]
    members["xl/worksheets/sheet1.xml"] = b'<!DOCTYPE worksheet [<!ENTITY a "b">]>' + sheet
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        convert(write_archive(tmp_path / "c.xlsx", members))


def test_empty_rows_take_a_byte_each_and_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    body = (
        b'<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>customer_phone</t></is></c>'
        b'<c r="ALL1"><v>1</v></c></row>'
        b'<row r="1048576"><c r="A1048576"><v>5</v></c></row></sheetData>'
    )
    path = write_sheet(tmp_path / "a.xlsx", body)
    convert(path)
    assert path.with_suffix(".out").stat().st_size < 2**20 + 3 * 2**14
    report, _, _ = check(
        path.with_suffix(".out").read_bytes(), ContactsOptions(workbook=Workbook("Sheet", ["Sheet"], []))
    )
    assert [error.line for error in report.errors] == [1_048_576]


def test_a_sheet_whose_csv_would_be_far_longer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.uploads.workbooks.MAX_CSV_BYTES", 2**16)
    rows = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (number, number) for number in range(1, 100))
    with pytest.raises(InvalidRequestError, match="far more empty or repeated cells"):
        convert(write_sheet(tmp_path / "a.xlsx", b"<sheetData>" + rows + b"</sheetData>"))
    assert (tmp_path / "a.out").stat().st_size < 2**18


def test_numbers_whose_format_has_letters_of_dates_are_numbers_and_durations_are_shown_in_hours(tmp_path: Path) -> None:
    cells: list[tuple[Any, str, str]] = [
        (29000, "Rs. #,##0", "Rs. 29000"), (919876543210, "Rs. 0", "Rs. 919876543210"),
        (5, '"Due; day "0', "Due; day 5"),
        (46354, "Standard", "46354"), (0.5, "# days", "1 days"), (7, '0" d";[Red]-0" d"', "7 d"),
        (29000, "#,##0 SEK", "29000 SEK"),
        (1.5, "[h]:mm", "36:00"), (1.5, "[hh]:mm:ss", "36:00:00"), (0.5, "[mm]", "720"), (0.25, "[m]:ss", "360:00"),
        (0.001, "[s]", "86"), (0.05, "[hh]:mm", "01:12"), (-0.5, "[h]:mm", "-12:00"),
        (46354, "yyyy-mm-dd", "2026-11-28"), (46354, "d mmm yy", "2026-11-28"), (0.5, "hh:mm:ss.000", "12:00"),
        (46354.5, "dd/mm/yyyy hh:mm", "2026-11-28 12:00"), (46354, "[$-409]d-mmm-yy;@", "2026-11-28"),
        ("Rao", '"Mr. "@', "Mr. Rao"), (919876543210, "# ?/?", "#FORMAT!"), (1e20, "General", "1" + "0" * 20),
        (1e20, "yyyy", "#VALUE!"),
    ]  # fmt: skip
    formats = {f"A{at}": number_format for at, (_, number_format, _) in enumerate(cells, start=1)}
    rows, _ = convert(save(tmp_path / "a.xlsx", [[value] for value, _, _ in cells], formats))
    assert rows == [[shown] for _, _, shown in cells]


def test_a_sheet_is_chosen_by_name_and_hidden_rows_and_other_sheets_are_reported(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    first = book.worksheets[0]
    first.title, first.sheet_state = "Old", "hidden"
    leads = book.create_sheet("Leads")
    for row in (["customer_phone"], [ASHA], [RAVI], ["+919876543212"]):
        leads.append(row)
    leads.row_dimensions[3].hidden = True
    other = book.create_sheet("Other")
    other.append(["x"])
    book.active = leads
    book.save(tmp_path / "a.xlsx")
    rows, notes = convert(tmp_path / "a.xlsx")
    assert rows == [["customer_phone"], [ASHA], [RAVI], ["+919876543212"]]
    assert notes[0].startswith("The workbook has 3 sheets; 'Leads' is read")
    assert notes[1].startswith("The sheet has 1 hidden row, read like the others")
    assert convert(tmp_path / "a.xlsx", " other ")[0] == [["x"]]
    with pytest.raises(InvalidRequestError, match="no sheet 'Nope'; it has 'Old', 'Leads', 'Other'"):
        convert(tmp_path / "a.xlsx", "Nope")


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    table=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)
                 .filter(lambda text: text.strip() == text and not text.startswith("=") and "_x" not in text),
                 min_size=2, max_size=2),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_any_texts_of_a_workbook_read_back(tmp_path_factory: pytest.TempPathFactory, table: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("book") / "a.xlsx"
    rows = [["a", "b"], *table, ["end", "end"]]
    assert convert(save(path, rows))[0] == [row if any(row) else [] for row in rows]


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_workbook_that_unpacks_to_far_more_is_refused_unread(tmp_path: Path) -> None:
    save(tmp_path / "good.xlsx", [["customer_phone"]])
    with zipfile.ZipFile(tmp_path / "good.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in ("xl/styles.xml", "xl/sharedStrings.xml"):
        path = write_archive(tmp_path / "bomb.xlsx", members | {name: b"\0" * (201 * 2**20)})
        assert path.stat().st_size < 2**20
        with pytest.raises(InvalidRequestError, match="unpacks to more than can be read"):
            convert(path)
    for damaged in ({"xl/workbook.xml": b"<no"}, {"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row"}):
        with pytest.raises(InvalidRequestError, match="cannot be read"):
            convert(write_archive(tmp_path / "damaged.xlsx", members | damaged))


def write_sheet(path: Path, body: bytes) -> Path:
    """A workbook whose sheet holds ``body``."""
    with zipfile.ZipFile(save(path, [["customer_phone"]])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = b'<worksheet xmlns="%s">%s</worksheet>' % (namespace, body)
    return write_archive(path, members | {"xl/worksheets/sheet1.xml": sheet})


def test_a_contact_below_many_empty_rows_is_read(tmp_path: Path) -> None:
    rows = convert(save(tmp_path / "a.xlsx", [["customer_phone"], *[[None]] * 20_000, [ASHA]]))[0]
    assert (len(rows), rows[-1]) == (20_002, [ASHA])


def test_merged_cells_are_reported(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in (["customer_phone", "city"], [ASHA, "Pune"], [RAVI, None]):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    book.save(tmp_path / "a.xlsx")
    rows, notes = convert(tmp_path / "a.xlsx")
    assert rows[1:] == [[ASHA, "Pune"], [RAVI, ""]]
    assert notes[0].startswith("The sheet has 1 merged cell")


def test_a_workbook_of_endless_elements_is_refused_within_bounds(tmp_path: Path) -> None:
    """100 KB unpack to elements that would take gigabytes; the process is bounded below that, to be fast here."""
    path = write_sheet(tmp_path / "a.xlsx", b"<sheetData><row>" + b"<c/>" * 2**23 + b"</row></sheetData>")
    assert path.stat().st_size < 2**17
    script = (
        "import service.uploads.workbooks as books\n"
        "books.MAX_MEMORY_BYTES = 150 * 2**20\n"
        "from service.uploads.checking import main\n"
        "main()\n"
    )
    task = msgspec.json.encode(Conversion(path=str(path), target=str(tmp_path / "out")))
    with subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(task + b"\n")
        process.stdin.flush()
        message = msgspec.json.decode(process.stdout.readline(), type=Message)
        process.stdin.close()
    assert "cannot be read" in (message.refused or "")


def test_an_archive_of_endless_members_is_refused_unread(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", {f"{number:x}": b"" for number in range(50_000)})
    with pytest.raises(InvalidRequestError, match="damaged workbook or zip archive"):
        is_workbook(path)


KINDS = {
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 20, "gzip"), "PDF": (b"%PDF-1.7\n...", "a PDF"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "an image"), "JPEG": (b"\xff\xd8\xff\xe0" + b"\0" * 20, "an image"),
    "vCard": (b"BEGIN:VCARD\nVERSION:3.0\nFN:Asha\n", "vCard"), "XML": (b"<?xml version='1.0'?><a/>", "XML"),
    "a page with a mark": ("\ufeff<html><body>".encode(), "a web page"), "JSON": (b' {"customer_phone": "1"}', "JSON"),
    "a page in UTF-16": ("<!DOCTYPE html>".encode("utf-16"), "a web page"), "RTF": (b"{\\rtf1\\ansi", "RTF"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, ".xls"),
    "binary": (bytes(range(1, 32)) * 20, "binary"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "kind"), KINDS.values(), ids=KINDS.keys())
def test_another_kind_of_file_is_named(content: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check(content, ContactsOptions())
    assert refused.value.message.startswith("file: is ")
    assert kind in refused.value.message


@pytest.mark.parametrize(
    ("member", "kind"),
    [("a.csv", "a zip archive"), ("word/document.xml", "Word"), ("content.xml", "OpenDocument"),
     ("Index/a.iwa", "Numbers"),
     ("xl/workbook.bin", "xlsb")],
)  # fmt: skip
def test_another_kind_of_archive_is_named(tmp_path: Path, member: str, kind: str) -> None:
    more = {"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"} if kind == "OpenDocument" else {}
    path = write_archive(
        tmp_path / "a.zip", {"[Content_Types].xml": b"", member: b""} if "/" in member else {member: b""} | more
    )
    with pytest.raises(InvalidRequestError, match=kind):
        check(path.read_bytes(), ContactsOptions())
