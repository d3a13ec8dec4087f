"""Files as people have them: read with the right people, or refused in words that say what to do.

The files in ``cases`` were made after files of people who do this job; names and numbers are invented.
"""

import csv
import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.uploads.checking import Message
from service.uploads.kinds import is_workbook
from service.uploads.report import ContactsOptions
from service.uploads.workbooks import Conversion, convert_workbook
from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.uploads.checked import check
from tests.uploads.sampling import phones_of

CASES = Path(__file__).parent / "cases"
ASHA, RAVI = "+919876543210", "+919876543211"


class Case(NamedTuple):
    """A file, the fields sent with it, and who is called; or what the refusal says."""

    file: str
    fields: dict[str, str]
    phones: list[str] | None = None
    says: tuple[str, ...] = ()
    report: Mapping[str, Any] = MappingProxyType({})


SKIP = {"invalid": "skip"}
GUESSED = {"warnings": 1}
READ = [
    Case("apostrophe.csv", {}, [ASHA, RAVI]),
    Case("apostrophe.csv", {"sheet": "Leads"}, [ASHA, RAVI], report={"warnings": 1}),
    Case("bars-country-code-apart.txt", {"phone_column": "phone_number", "region": "US"}, ["+14155550101"]),
    Case("blank-phones.csv", SKIP, [ASHA], report={"skipped": 5, "error_kinds": {"phone_missing": 5}}),
    Case("column-contact_number.csv", {"phone_column": "contact_number"} | SKIP,
         ["+11231237890", "+9112345678", "+44999999007"], report={"unlikely": 3, "skipped": 1}),
    Case("column-number.csv", {"phone_column": "number"}, ["+14155550100", "+14155550101"],
         report={"countries": {"US": 2}}),
    Case("column-phone.csv", {"phone_column": "Phone"}, ["+14155551234", "+14155555678"]),
    Case("column-phone_number.csv", {"phone_column": "phone_number"}, [ASHA, RAVI, "+919876543212"]),
    Case("cp1252-semicolons.csv", {}, [ASHA, RAVI], report=GUESSED),
    Case("decimal.csv", {"region": "IN"}, [ASHA]),
    Case("empty-columns-and-rows.csv", {}, [ASHA, RAVI], report={"empty_rows": 2, "empty_columns": 2}),
    Case("empty-rows.csv", {}, [ASHA], report={"empty_rows": 2, "empty_columns": 0}),
    Case("header-camel.csv", {}, [ASHA]),
    Case("header-spaced.csv", {}, [ASHA]),
    Case("national-format-us.csv", {"phone_column": "Phone Number", "region": "US"}, ["+15551234567", "+15559876543"]),
    Case("national-ten-digits.csv", {"region": "IN"}, [ASHA, RAVI]),
    Case("no-plus.csv", {"region": "IN"}, [ASHA, RAVI]),
    Case("notes-below.csv", {"phone_column": "Phone Number", "region": "GH"} | SKIP, ["+233551234567"],
         report={"error_kinds": {"note": 3}}),
    Case("sep-line.csv", {}, [ASHA, RAVI]),
    Case("sep-line-quoted.csv", {"phone_column": "MOBILE", "region": "ZA"}, ["+27821234567"]),
    Case("us-local.csv", {"region": "US"}, ["+15550101234"], report={"unlikely": 1}),
    Case("utf16le-no-bom.csv", {}, [ASHA, RAVI], report=GUESSED),
    Case("utf16le-tabs.txt", {}, [ASHA, RAVI], report={"warnings": 0}),
    Case("workbook.xlsx", {"region": "IN"}, [ASHA, RAVI]),
]  # fmt: skip
REFUSED = [
    Case("bars-country-code-apart.txt", {}, says=("phone_column=phone_number",)),
    Case("bars-country-code-apart.txt", {"phone_column": "phone_number"}, says=("no country code", "region=US")),
    Case("blank-phones.csv", {}, says=("line 3, column customer_phone: holds no phone number", "4 more")),
    Case("column-contact_number.csv", {}, says=("phone_column=contact_number",)),
    Case("column-number.csv", {}, says=("phone_column=number",)),
    Case("column-phone.csv", {}, says=("phone_column=phone",)),
    Case("column-phone_number.csv", {}, says=("phone_column=phone_number",)),
    Case("column-phone.csv", {"phone_column": "fone"}, says=("did you mean 'phone'?",)),
    Case("decimal.csv", {}, says=("with + it is a valid number of India", "region=IN")),
    Case("html.csv", {}, says=("a web page",)),
    Case("json.csv", {}, says=("JSON",)),
    Case("national-format-us.csv", {}, says=("phone_column=Phone Number",)),
    Case("national-format-us.csv", {"phone_column": "Phone Number"}, says=("region=US",)),
    Case("national-format-us.csv", {"phone_column": "Phone Number", "region": "IN"},
         says=("not a phone number of India",)),
    Case("national-ten-digits.csv", {}, says=("no country code", "region=IN")),
    Case("no-header.csv", {}, says=("holds a contact, and names no columns",)),
    Case("no-plus.csv", {}, says=("with + it is a valid number of India", "region=IN")),
    Case("notes-below.csv", {}, says=("phone_column=Phone Number",)),
    Case("notes-below.csv", {"phone_column": "Phone Number", "region": "GH"}, says=("line 4 has 1 cell", "note")),
    Case("preamble-above-header.csv", {}, says=("line 4 seems to be the header: remove lines 1 to 3",)),
    Case("scientific-notation.csv", {}, says=("shortened by a spreadsheet", "format the column as text")),
    Case("sep-line-quoted.csv", {}, says=("'HOME PHONE', 'WORK PHONE', 'MOBILE'", "phone_column=")),
    Case("two-numbers-in-a-cell.csv", {}, says=("line 2", "holds two phone numbers")),
    Case("us-local.csv", {}, says=("no country code", "region=US")),
    Case("workbook.xlsx", {"sheet": "Leads"}, says=("no sheet 'Leads'",)),
]  # fmt: skip


async def test_files_of_people_are_read_with_the_right_people(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for number, case in enumerate(READ, start=1):
            with subtests.test(case.file):
                content, name = (CASES / case.file).read_bytes(), f"Batch {number}"
                dry = await upload(service, content, file_name=case.file, name=name, dry_run="true", **case.fields)
                assert dry.status_code == 200, dry.text
                report = dry.json()["data"]
                answer = await upload(
                    service, content, file_name=case.file, name=name, agent_id=str(1000 + number), **case.fields
                )
                assert answer.status_code == 200, answer.text
                assert phones_of(sandbox, answer.json()["data"]["id"]) == case.phones
                assert report["recipients"] == answer.json()["data"]["total_recipients"]
                for found in (report, answer.json()["data"]["file"]):
                    for field, value in case.report.items():
                        assert (len(found[field]) if isinstance(found[field], list) else found[field]) == value


async def test_files_that_are_no_tables_of_contacts_are_refused_with_what_to_do(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for case in REFUSED:
            with subtests.test(f"{case.file} {case.fields}"):
                answer = await upload(service, (CASES / case.file).read_bytes(), file_name=case.file, **case.fields)
                message = answer.json()["error"]["message"]
                assert (answer.status_code, [word for word in case.says if word not in message]) == (400, []), message
        assert count_uploads(sandbox) == (0, 0)


async def test_rows_that_were_given_back_can_be_corrected_and_uploaded(start_service: StartService) -> None:
    content = f"customer_phone,name\n{ASHA},Asha\n98765,Ravi\n"
    async with connect_provider(start_service) as (service, sandbox):
        first = (await upload(service, content, invalid="skip")).json()["data"]
        rejected = (await service.get(f"/v1/uploads/{first['upload_id']}/rejected.csv")).content.decode()
        again = await upload(service, rejected.replace("98765,", f"{RAVI},"), name="Corrected")
        assert again.status_code == 200, again.text
        assert phones_of(sandbox, again.json()["data"]["id"]) == [RAVI]
        (contact,) = [sandbox.sandbox.find_batch(again.json()["data"]["id"]).contacts.read(0)]
        assert "error" not in contact[1]
        own = "customer_phone,name,error\n+919876543219,Dev,none\n"
        for fields in ({"accept_columns": "true"}, {"agent_id": "7"}):
            other = (await upload(service, own, name="Own", **fields)).json()["data"]
            assert sandbox.sandbox.find_batch(other["id"]).contacts.read(0)[1]["error"] == "none"


TABLE = "customer_phone,name\n+919876543210,Zoë\n+919876543211,Renée\n"
DRESSED: dict[str, bytes] = {
    "UTF-8": TABLE.encode(), "with a mark": TABLE.encode("utf-8-sig"), "UTF-16": TABLE.encode("utf-16"),
    "UTF-16 BE with a mark": b"\xfe\xff" + TABLE.encode("utf-16-be"), "UTF-16 LE": TABLE.encode("utf-16-le"),
    "UTF-16 BE": TABLE.encode("utf-16-be"),
    "Windows-1252": TABLE.encode("cp1252"), "Mac Roman": TABLE.encode("mac_roman"),
    "CR": TABLE.replace("\n", "\r").encode(), "CRLF": TABLE.replace("\n", "\r\n").encode(),
    "blank lines on top": f"\n\n ,\n{TABLE}".encode(), "sep": f"sep=,\n{TABLE}".encode(),
    "sep with a mark": f"\ufeffsep=;\r\n{TABLE.replace(',', ';')}".encode(), "quoted sep": f'"sep=,"\n{TABLE}'.encode(),
    "tabs": TABLE.replace(",", "\t").encode(), "bars": TABLE.replace(",", "|").encode(),
    "a name with an invisible character": TABLE.replace("customer_phone", "customer\u200b_phone").encode(),
    "a name in capitals": TABLE.replace("customer_phone", "CUSTOMER-PHONE").encode(),
    "a mark that was read as letters": f"ï»¿{TABLE}".encode(),
    "a name with accents": TABLE.replace("phone", "phoné").encode(),
    "sep and empty cells": f"SEP=,,,\n{TABLE}".encode(),
    "rows without their empty cells": TABLE.replace("name", "name,,").encode(),
    "an empty column": TABLE.replace("\n", ",\n").encode(),
    "an empty column between": TABLE.replace(",", ",,").encode(),
    "empty rows": f"{TABLE},\n , \n\u00a0,\u200b\n".encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", DRESSED.values(), ids=DRESSED.keys())
def test_a_table_reads_the_same_in_any_dress(content: bytes) -> None:
    report, contacts, _ = check(content, ContactsOptions())
    assert report.errors == []
    assert [(one.phone, one.parameters) for one in contacts] == [(ASHA, '{"name":"Zoë"}'), (RAVI, '{"name":"Renée"}')]


NAMES = {
    "western": ["É","René", "Zoë Müller", "Núñez", "Conceição", "MÜLLER", "NÚÑEZ", "Määttä",
                "Søren", "Ørsted", "d’Arcy", "Straße"],
    "cp1250": ["Łukasz", "Wałęsa", "Żółty"], "cp1251": ["Иван", "Мария"], "cp1253": ["Γιώργος", "Μαρία"],
    "cp1254": ["Şahin", "Yılmaz", "Ağa"], "cp1256": ["محمد", "فاطمة"], "shift_jis": ["山田太郎", "鈴木"],
    "gbk": ["张伟", "王芳"],
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
@pytest.mark.parametrize("name", NAMES["western"])
def test_western_names_are_read_with_a_warning_that_says_where_to_check(encoding: str, name: str) -> None:
    file = f"customer_phone;city;name\n{RAVI};Pune;Asha\n{ASHA};Pune;{name}\n".encode(encoding)
    report, contacts, _ = check(file, ContactsOptions())
    assert [one.parameters for one in contacts] == [
        '{"city":"Pune","name":"Asha"}',
        f'{{"city":"Pune","name":"{name}"}}',
    ]
    assert "such as column C on line 3" in report.warnings[0]
    assert name not in report.warnings[0]


@pytest.mark.parametrize("encoding", [one for one in NAMES if one != "western"])
def test_names_in_another_encoding_are_refused_and_not_read_as_other_names(encoding: str) -> None:
    rows = "".join(f"+91{9_876_543_210 + at},{name}\n" for at, name in enumerate(NAMES[encoding]))
    report, contacts, _ = check(f"customer_phone,name\n{rows}".encode(encoding), ContactsOptions())
    assert (contacts, report.error_kinds) == ([], {"encoding": len(NAMES[encoding])})
    assert str(report.errors[0]).startswith("file: line 2, column name: is not UTF-8")


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
def test_a_letter_that_reads_well_in_either_encoding_is_no_reason_to_guess_one(encoding: str) -> None:
    name = {"cp1252": "SIMÕES", "mac_roman": "O’BRIEN"}[encoding]
    report, contacts, _ = check(f"customer_phone,name\n{ASHA},{name}\n".encode(encoding), ContactsOptions())
    assert (contacts, report.error_kinds) == ([], {"encoding": 1})


@pytest.mark.parametrize("broken", [b"Ren\xe9", b"Zo\xc3"], ids=["a stray byte", "a cut character"])
def test_one_broken_character_beside_an_intact_one_is_an_error_of_its_row(broken: bytes) -> None:
    file = f"customer_phone,name\n{ASHA},Zoë\n{RAVI},".encode() + broken
    report, contacts, _ = check(file, ContactsOptions())
    assert ([one.phone for one in contacts], [one.line for one in report.errors]) == ([ASHA], [3])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    names=st.lists(st.text("abcdefgh ßéñøüÉÜ", max_size=12).map(str.strip), min_size=1, max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    delimiter=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n", "\r"]), blank=st.integers(0, 2),
)  # fmt: skip
def test_any_table_reads_back_in_any_encoding_and_dialect(
    names: list[str], encoding: str, delimiter: str, end: str, blank: int
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(["customer_phone", "name", "note"])
    for number, name in enumerate(names):
        writer.writerow([f"+91{9_876_543_210 + number}", name, f"a{delimiter}b"])
    text = end * blank + file.getvalue()
    report, contacts, _ = check(text.encode(encoding), ContactsOptions())
    assert report.errors == []
    assert [one.phone for one in contacts] == [f"+91{9_876_543_210 + number}" for number in range(len(names))]
    assert [f'"name":"{name}"' in one.parameters for one, name in zip(contacts, names, strict=True)] == [True] * len(
        names
    )


@settings(deadline=None, derandomize=True, max_examples=300)
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: f"customer_phone\n{text}".encode()))
def test_any_bytes_are_read_or_refused_in_words(content: bytes) -> None:
    try:
        check(content, ContactsOptions())
    except InvalidRequestError as error:
        says = error.message
    else:
        says = "file: is read"
    assert says.startswith("file: ")


def convert(path: Path, sheet: str = "") -> tuple[list[list[str]], list[str]]:
    target = path.with_suffix(".out")
    notes = convert_workbook(Conversion(path=str(path), target=str(target), sheet=sheet), lambda _: None)
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
    }  # fmt: skip
    rows, notes = convert(save(tmp_path / "a.xlsx", [["header"], *([value] for value in cells), [True], [None], [5]]))
    assert rows == [["header"], *([text] for text in cells.values()), ["TRUE"], [""], ["5"]]
    assert notes == []
    formats = {"A1": "0%", "A2": "0000000000", "A3": "0.00%"}
    assert convert(save(tmp_path / "b.xlsx", [[0.5], [9876543], [0.125]], formats))[0] == [
        ["50%"],
        ["0009876543"],
        ["12.5%"],
    ]


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
    assert convert(save(path, rows))[0] == [row if any(row) else ["", ""] for row in rows]


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Report of March\n\ncustomer_phone\n+919876543210\n", "line 3 seems to be the header: remove lines 1 to 2"),
        (b"Leads\nName,Mobile No\nA,+919876543210\n", "line 2 seems to be the header: remove line 1"),
        (b"Exported from CRM,,\n,,\nContact,Name,City\n+919876543210,A,Pune\n", "line 3 seems to be the header"),
        (b",name\n+919876543210,A\n", "column 1 (A) has no name: name it customer_phone"),
        (b"customer_phone,name,city\n+919876543210,A,Pune\n,,\nTotal,,\n", "line 4 has one cell below an empty row"),
        (b"customer_phone,name,city\n+919876543210,A,Pune\n,,\n+919876543211,,\n", ""),
        (b"+919876543210\n+919876543211\n", "holds a contact, and names no columns"),
        (b"name,city\nA,Pune\n", "it has 'name', 'city'"),
        (b"customer_phone,Customer Phone\n+919876543210,1\n", ""),
        (b"Customer Phone,CUSTOMER_PHONE\n+919876543210,1\n", "no column 'customer_phone'"),
        (b"customer_phone,name\n+919876543210,A\n\nTotal: 1\n", "line 4 has 1 cell, the header 2: it seems to be"),
    ],
)  # fmt: skip
def test_a_table_with_lines_that_do_not_belong_to_it_is_refused_with_their_place(content: bytes, says: str) -> None:
    try:
        report, _, _ = check(content, ContactsOptions())
    except InvalidRequestError as error:
        found = error.message
    else:
        found = "".join(map(str, report.errors[:1]))
    assert says in found
    assert bool(says) == bool(found)
