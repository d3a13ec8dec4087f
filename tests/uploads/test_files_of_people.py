"""Files as people have them: read with the right people, or refused in words that say what to do.

The files in ``cases`` were made after files of people who do this job; names and numbers are invented.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.uploads.report import ContactsOptions
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
        mobile = "Mobile,name\n+919876543215,Asha\n98765,Ravi\n"
        third = (await upload(service, mobile, name="Mobile", phone_column="Mobile", invalid="skip")).json()["data"]
        rejected = (await service.get(f"/v1/uploads/{third['upload_id']}/rejected.csv")).content.decode("utf-8-sig")
        assert rejected.splitlines()[0] == "Mobile,name,outcome_error"
        corrected = rejected.replace("98765,", "+919876543216,")
        assert (await upload(service, corrected, name="Once more", phone_column="Mobile")).status_code == 200
        own = "customer_phone,name,error\n+919876543219,Dev,none\n"
        for fields in ({"accept_columns": "true"}, {"agent_id": "7"}):
            other = (await upload(service, own, name="Own", **fields)).json()["data"]
            assert sandbox.sandbox.find_batch(other["id"]).contacts.read(0)[1]["error"] == "none"


async def test_nobody_is_called_by_the_untouched_rows_that_an_upload_gave_back(start_service: StartService) -> None:
    content = f"customer_phone,name\n{ASHA},Asha\n98765,Ravi\n{ASHA},Asha again\n,Dev\n"
    async with connect_provider(start_service) as (service, sandbox):
        for number, first_fields in enumerate(({}, {"duplicates": "first"}, {"test_recipients": "1"})):
            two = content.replace("98765,Ravi", f"98765,Ravi\n{RAVI},Ravi")
            fields = {"agent_id": str(50 + number), "invalid": "skip"}
            first = (await upload(service, two, name=f"First {number}", **fields, **first_fields)).json()["data"]
            rejected = (await service.get(f"/v1/uploads/{first['upload_id']}/rejected.csv")).content.decode("utf-8-sig")
            calls = count_uploads(sandbox)
            for more in ({}, {"accept_columns": "true"}, {"force": "true"}):
                again = await upload(service, rejected, name="Again", **fields, **more)
                assert again.status_code == 400, again.text
            assert count_uploads(sandbox) == calls


async def test_errors_that_were_given_back_are_never_a_parameter(start_service: StartService) -> None:
    content = f"customer_phone,name\n{ASHA},Asha\n98765,Ravi\n"
    async with connect_provider(start_service) as (service, sandbox):
        first = (await upload(service, content, invalid="skip")).json()["data"]
        rejected = (await service.get(f"/v1/uploads/{first['upload_id']}/rejected.csv")).content.decode("utf-8-sig")
        corrected = rejected.replace("98765,", f"{RAVI},")
        for number, fields in enumerate(({"accept_columns": "true"}, {"agent_id": "7"})):  # columns known, and not
            again = await upload(service, corrected, name=f"Again {number}", force="true", **fields)
            assert again.status_code == 200, again.text
            assert "error" not in sandbox.sandbox.find_batch(again.json()["data"]["id"]).contacts.read(0)[1]
            columns = (await service.get(f"/v1/agents/{fields.get('agent_id', '123')}/columns")).json()["data"][
                "columns"
            ]
            assert columns == ["customer_phone", "name"]


SHEET_ERRORS = (
    "#REF!", "#N/A", "#NAME?", "#DIV/0!", "#WERT!", "#¡VALOR!", "########", "#NV", "#Н/Д", "#YOK", "#I/T", "#N/B",
    "#N/D",
    "#HIÁNYZIK", "#NENÍ_K_DISPOZICI", "#¿NOMBRE?", "#GETTING_DATA", "Err:502", "Err:508", "#ССЫЛКА!", "#ДЕЛ/0!",
    "#NÉV?", "#SPILL!", "#SAKNAS!", "#FORMAT!",
)  # fmt: skip


async def test_errors_of_spreadsheets_are_refused_and_words_for_empty_cells_are_reported(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for cell in SHEET_ERRORS:
            with subtests.test(cell):
                answer = await upload(service, f"customer_phone,amount\n{ASHA},{cell}\n")
                message = answer.json()["error"]["message"]
                assert (answer.status_code, "line 2, column amount: holds an error" in message) == (400, True), message
            with subtests.test(cell, column="customer_phone"):
                answer = await upload(service, f"customer_phone,amount\n{ASHA},5\n{cell},6\n")
                message = answer.json()["error"]["message"]
                assert answer.status_code == 400
                assert "line 3, column customer_phone: " in message
                assert "correct the cell's formula, its format or the width of its column" in message
        for cell in ("#1 choice", "#42", "C#", "Null", "#metoo!x", "#yok", "#N", "#12A", "Err:5", "Error:502", "#IT"):
            with subtests.test(cell):
                report = (await upload(service, f"customer_phone,x\n{ASHA},{cell}\n", dry_run="true")).json()["data"]
                assert (report["valid"], report["warnings"]) == (True, [])
        content = f"customer_phone,amount,city\n{ASHA},5,Pune\n{RAVI},NULL,\\N\n+919876543212,nan,x\n"
        report = (await upload(service, content, dry_run="true")).json()["data"]
        assert report["valid"] is True
        assert report["warnings"] == [
            "3 cells with a word for nothing, sent like any other: the first is NULL in column 'amount' on line 3"
        ]
        assert count_uploads(sandbox) == (0, 0)


async def test_a_column_of_days_is_not_a_column_of_phones(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for days, region in (("28112026", "DE"), ("11282026", "DE"), ("28112026", "DK"), ("31012026", "SG")):
            for phones in ([days], [days, "01012025", "32123456"]):
                with subtests.test(f"{phones} {region}"):
                    content = "customer_phone\n" + "".join(f"{phone}\n" for phone in phones)
                    answer = await upload(service, content, region=region, invalid="skip")
                    assert answer.status_code == 400, answer.text
        danes = "customer_phone\n28112026\n32123456\n20123456\n"  # one phone that could be a day
        report = await upload(service, danes, region="DK", dry_run="true")
        assert report.json()["data"]["valid"] is True, report.text
        stated = "customer_phone\n+4528112026\n"
        assert (await upload(service, stated, dry_run="true")).json()["data"]["valid"] is True
        assert count_uploads(sandbox) == (0, 0)


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
