"""Rows that an upload gave back call nobody a second time, and stay errors until somebody corrects them."""

import csv
import io

import pytest

from service.errors import InvalidRequestError
from service.uploads.report import MAX_LISTED, ContactsOptions
from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.uploads.checked import check
from tests.uploads.sampling import phones_of

ASHA, RAVI = "+919876543210", "+919876543211"
TWICE = {
    "sheet error": f"Asha,{ASHA},#N/A",
    "too few cells": f"Asha,{ASHA}",
    "too many cells": f"Asha,{ASHA},a,b,c",
    "a delimiter before the phone": f"Rao,Asha,{ASHA},a,b",
    "nameless": f"Asha,{ASHA},a,b",
    "broken letter": f"Jos\udce9,{ASHA},a",
    "lost letter": f"Jos\ufffd,{ASHA},a",
    "nul": f"Asha\x00,{ASHA},a",
    "missing quote": f'"Dev\nx,+919876543219,a\nAsha",{ASHA},a',
    "extension": f"Asha,{ASHA} x5,a",
    "two phones": f"Asha,{ASHA} / +919876543219,a",
    "other spelling": "Asha,0091 98765-43210,#REF!",
}
STUBBORN = {
    "too few cells": f"Asha,{ASHA}",
    "one cell": "Asha",
    "too many cells": f"Asha,{ASHA},a,b",
    "too many cells, the first of them empty": f"Asha,{ASHA},a,,b",
    "sheet error": f"Asha,{ASHA},#N/A",
    "broken letter": f"Jos\udce9,{ASHA},é",
    "broken letter in the phone": "Asha,+91987654321\udcb2,é",
    "nul": f"As\x00ha,{ASHA},a",
    "lost letter": f"Jos\ufffd,{ASHA},a",
    "missing quote": f'"Dev\nx,+919876543219,a\nAsha",{ASHA},a',
    "no phone": "Asha,,a",
    "extension": f"Asha,{ASHA} x5,a",
}


def to_bytes(*rows: str) -> bytes:
    return "\n".join([*rows, ""]).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("is_before", [False, True], ids=["behind", "before"])
async def test_rows_of_people_whom_another_row_calls_are_not_given_back(
    start_service: StartService, subtests: pytest.Subtests, is_before: bool
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for number, (kind, row) in enumerate(TWICE.items()):
            with subtests.test(kind):
                good = f"Asha,{ASHA},good é"
                rows = [row, good] if is_before else [good, row]
                content = to_bytes("name,customer_phone,note,", *rows, "Ravi,12,a")
                answer = await upload(service, content, invalid="skip", name=f"Batch {number}", force="true")
                batch = answer.json()["data"]
                assert phones_of(sandbox, batch["id"]) == [ASHA]
                assert (batch["file"]["error_count"], batch["file"]["skipped"]) == (2, 2)
                given_back = (await service.get(f"/v1/uploads/{batch['upload_id']}/rejected.csv")).text
                assert [one[0] for one in csv.reader(io.StringIO(given_back, newline=""))][1:] == ["Ravi"]


async def test_rows_given_back_call_nobody_until_somebody_corrects_them(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for number, (kind, row) in enumerate(STUBBORN.items()):
            with subtests.test(kind):
                content = to_bytes("name,customer_phone,note", f"Ravi,{RAVI},é", row)
                first = (await upload(service, content, invalid="skip", name=f"Batch {number}", force="true")).json()
                path = f"/v1/uploads/{first['data']['upload_id']}/rejected.csv"
                given_back = (await service.get(path)).text
                assert "outcome_error" in given_back.partition("\n")[0]
                for again in (given_back, drop_error_column(given_back), save_as_a_spreadsheet_does(given_back)):
                    before = count_uploads(sandbox)
                    refused = await upload(service, again, name=f"Again {number}", force="true")
                    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request")
                    skipped = await upload(service, again, name=f"Again {number}", force="true", invalid="skip")
                    assert "no row is left to call" in skipped.json()["error"]["message"]
                    assert count_uploads(sandbox) == before


def save_as_a_spreadsheet_does(content: str) -> str:
    rows = list(csv.reader(io.StringIO(content.removeprefix("\ufeff"), newline="")))
    width, target = max(map(len, rows)), io.StringIO(newline="")
    csv.writer(target, delimiter=";").writerows(row + [""] * (width - len(row)) for row in rows)
    return target.getvalue()


def drop_error_column(content: str) -> str:
    rows = list(csv.reader(io.StringIO(content.removeprefix("\ufeff"), newline="")))
    at, target = rows[0].index("outcome_error"), io.StringIO(newline="")
    csv.writer(target).writerows(row[:at] + row[at + 1 :] for row in rows)
    return target.getvalue()


async def test_cells_without_a_column_come_back_at_the_end_of_their_row(start_service: StartService) -> None:
    content = f"name,,customer_phone,\nAsha,,{ASHA},\nRavi,lost,{RAVI},\nDev,,+919876543219,too\n"
    async with connect_provider(start_service) as (service, _):
        batch = (await upload(service, content, invalid="skip")).json()["data"]
        given_back = (await service.get(f"/v1/uploads/{batch['upload_id']}/rejected.csv")).text
        rows = list(csv.reader(io.StringIO(given_back, newline="")))
        assert [(*row[:2], *row[3:]) for row in rows[1:]] == [
            ("Ravi", RAVI, "lost"), ("Dev", "+919876543219", "too"),
        ]  # fmt: skip
        assert (await upload(service, given_back, name="Again")).json()["error"]["message"].startswith("file: line 2")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("name,customer_phone,outcome_error", "Asha,{},{}"),
        ("outcome_error,name,customer_phone", "{1},Asha,{0}"),
        ("name,OUTCOME_ERROR,customer_phone", "Asha,{1},{0}"),
        ("name,customer_phone, Outcome Error ,", "Asha,{},{},"),
    ],
)
async def test_the_column_of_errors_is_left_out_whatever_it_holds(
    start_service: StartService, header: str, row: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for number, error in enumerate(("file: line 3: holds no phone number", "", "corrected by Ravi")):
            content = f"{header}\n{row.format(ASHA, error)}\n{row.format('+919876543219', '')}\n"
            answer = await upload(service, content, name=f"Batch {number}", force="true")
            assert answer.status_code == 200, answer.text
            batch = answer.json()["data"]
            assert sorted(sandbox.sandbox.find_batch(batch["id"]).contacts.read(0)[1]) == ["name", "outcome_ref"]
            assert "says why rows were given back; it is left out" in batch["file"]["warnings"][0]


async def test_a_column_error_of_a_file_is_a_column_like_the_others(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        first = (await upload(service, f"name,customer_phone,error\nRavi,{RAVI},file: line 3 is odd\n")).json()["data"]
        assert sandbox.sandbox.find_batch(first["id"]).contacts.read(0)[1]["error"] == "file: line 3 is odd"
        assert first["file"]["warnings"] == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("header", "swallowed"),
    [
        ("customer_phone,name", f'{ASHA},"Asha|{RAVI},Ravi|+919876543219,Dev"'),
        ("customer_phone,name,note", f'{ASHA},"Asha,x|{RAVI},Ravi,y|+919876543219,Dev",z'),
        ("customer_phone,name,note", f'{ASHA},"Asha,x|{RAVI},Ravi",y'),
        ("name,customer_phone,note", f'"Asha,{ASHA},x|Ravi",{RAVI},y'),
        ("name,customer_phone,note", f'"Asha,{ASHA},x|Ravi,{RAVI},y|Dev",+919876543219,z'),
        ("name,note,customer_phone", f'Asha,"x,{ASHA}|Ravi,y",{RAVI}'),
    ],
)
def test_a_cell_that_holds_whole_rows_is_an_error_of_its_row(
    header: str, swallowed: str, delimiter: str, end: str
) -> None:
    content = "\n".join((header, swallowed.replace("|", "\n"), ""))
    content = content.replace(",", delimiter).replace("\n", end)
    report, contacts, _ = check(content.encode(), ContactsOptions())
    assert (contacts, report.error_kinds) == ([], {"quote": 1})
    assert str(report.errors[0]).endswith(
        "a quote seems to be missing: this cell holds whole rows: correct the quotes, or export the file again"
    )


@pytest.mark.parametrize(
    "note",
    [
        "12 Main Street,\nFlat 4, near the bank,\nMumbai, 400001", "Dear Asha,\nplease call, thanks", "a\nb\nc",
        "a,b\n",
        "call 98765 43210\nor the office", "one, two\nthree, four\nfive, six", "\n,\n", "Rs. 1,250\nRs. 3,400",
        "2026-11-28, 10:00\n2026-11-29, 11:00", "call 9876543210, after five\nthanks",
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", ["customer_phone,note", "note,customer_phone,name", "name,customer_phone,note"])
def test_a_cell_with_lines_of_its_own_is_read(header: str, note: str) -> None:
    cells = {"customer_phone": ASHA, "note": f'"{note}"', "name": "Asha"}
    content = f"{header}\n{','.join(cells[name] for name in header.split(','))}\n"
    report, contacts, _ = check(content.encode(), ContactsOptions(region="IN"))
    assert (report.errors, [one.phone for one in contacts]) == ([], [ASHA])


@pytest.mark.parametrize("start", [0, 1])
def test_a_nameless_first_column_that_counts_the_rows_is_left_out_with_a_warning(start: int) -> None:
    rows = "".join(f"{number},+9198000{number:05},A{number}\n" for number in range(start, start + 150))
    report, contacts, upload = check(f",customer_phone,name\n{rows}".encode(), ContactsOptions())
    assert (report.errors, len(contacts), report.empty_columns) == ([], 150, 0)
    assert report.warnings == ["The first column (A) has no name and counts the rows; it is left out"]
    assert upload.splitlines()[0] == "customer_phone,name"
    assert report.recipients > MAX_LISTED


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        (f",customer_phone\n2,{ASHA}\n3,{RAVI}\n", [2, 3]),
        (f",customer_phone\n1,{ASHA}\n3,{RAVI}\n", [3]),
        (f",customer_phone\n,{ASHA}\n1,{RAVI}\n", [3]),
        (f"customer_phone,\n{ASHA},1\n{RAVI},2\n", [2, 3]),
        (f",customer_phone,name\n0,{ASHA},A\n1,+919876543219\n2,{RAVI},B\n", [3]),
    ],
)
def test_any_other_cell_without_a_column_is_an_error(file: str, lines: list[int]) -> None:
    report, _, _ = check(file.encode(), ContactsOptions())
    assert [error.line for error in report.errors] == lines


@pytest.mark.parametrize(
    "first",
    ["Asha,asha@example.com,Mumbai", "Asha Rao,400001,Mumbai", "Asha,98765,x", "Asha,LN,+91 98765 43210", "12345,A,B"],
)  # fmt: skip
@pytest.mark.parametrize("phone_column", ["", "mobile"])
def test_without_a_header_no_cell_of_a_contact_is_quoted(first: str, phone_column: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check(f"{first}\nRavi,x,y\n".encode(), ContactsOptions(phone_column=phone_column, region="IN"))
    assert "line 1 holds a contact, and names no columns" in refused.value.message
    assert not any(cell in refused.value.message for cell in first.split(",") if len(cell) > 1)


def test_a_name_of_a_column_may_hold_a_few_digits() -> None:
    with pytest.raises(InvalidRequestError, match="'2026'"):
        check(b"name,2026,plan 12345\nRavi,x,y\n", ContactsOptions())


@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
def test_a_letter_that_was_lost_before_is_an_error_in_every_file(codec: str) -> None:
    report, _, _ = check(f"customer_phone,name\n{ASHA},Jos\ufffd\n{RAVI},José\n".encode(codec), ContactsOptions())
    assert [str(error) for error in report.errors] == [
        "file: line 2, column name: holds \ufffd: a letter was lost when the file was saved: write it again"
    ]
    with pytest.raises(InvalidRequestError, match=r"line 1, column 2 \(B\): holds \ufffd: a letter was lost"):
        check(f"customer_phone,na\ufffde\n{ASHA},a\n".encode(codec), ContactsOptions())
