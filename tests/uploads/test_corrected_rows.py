"""Rows that are given back are corrected in a spreadsheet, saved as it saves them, and uploaded; and rows whose person
another row has can be found."""

import csv
import io
from collections.abc import Callable

import httpx
import openpyxl
import pytest

from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.uploads.sampling import phones_of

ASHA, RAVI, DEV = "+919876543210", "+919876543211", "+919876543212"
FILE = f"name,customer_phone,note\nAsha,{ASHA},good\nRavi,98765,short\nDev,{DEV},#N/A\nAsha,{ASHA},again\nAsha,{ASHA}\n"
Rows = list[list[str]]


def read_rows(answer: httpx.Response) -> Rows:
    assert answer.status_code == 200, answer.text
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def correct(rows: Rows) -> Rows:
    """The rows with what a person writes into them, and the reasons as they were."""
    return [rows[0], ["Ravi", RAVI, "short", rows[1][3]], ["Dev", DEV, "", "done"]]


def save_csv(rows: Rows, delimiter: str = ",", codec: str = "utf-8-sig") -> bytes:
    width, target = max(map(len, rows)), io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter).writerows(row + [""] * (width - len(row)) for row in rows)
    return target.getvalue().encode(codec)


def save_xlsx(rows: Rows) -> bytes:
    """A workbook in which phones have become numbers, as they do when a spreadsheet opens a CSV."""
    book, target = openpyxl.Workbook(write_only=True), io.BytesIO()
    sheet = book.create_sheet()
    for row in rows:
        sheet.append([int(cell) if cell.startswith("+") else cell or None for cell in row])
    book.save(target)
    return target.getvalue()


SAVED: dict[str, Callable[[Rows], bytes]] = {
    "CSV UTF-8": save_csv,
    "CSV with semicolons": lambda rows: save_csv(rows, ";", "cp1252"),
    "Unicode text": lambda rows: save_csv(rows, "\t", "utf-16"),
    "workbook": save_xlsx,
}


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("is_checked_only", [True, False], ids=["after a check", "after an upload"])
async def test_rejected_rows_are_corrected_in_a_spreadsheet_and_uploaded(
    start_service: StartService, kind: str, is_checked_only: bool
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        if is_checked_only:
            rejected = await give_back(service, "rejected.csv", FILE)
        else:
            first = (await upload(service, FILE, invalid="skip")).json()["data"]
            rejected = await service.get(f"/v1/uploads/{first['upload_id']}/rejected.csv")
        content = SAVED[kind](correct(read_rows(rejected)))
        checked = (await upload(service, content, name="Corrected", region="IN", dry_run="true")).json()["data"]
        assert (checked["valid"], checked["columns"]) == (True, ["name", "customer_phone", "note"])
        assert any("'outcome_error'" in warning for warning in checked["warnings"])
        batch = (await upload(service, content, name="Corrected", region="IN")).json()["data"]
        assert phones_of(sandbox, batch["id"]) == [RAVI, DEV]
        assert set(sandbox.sandbox.find_batch(batch["id"]).contacts.read(0)[1]) == {"name", "note", "outcome_ref"}


async def give_back(service: httpx.AsyncClient, name: str, content: str, **form: str) -> httpx.Response:
    data = {"agent_id": "123", "name": "March Follow Ups", **form}
    return await service.post(f"/v1/batch-call/{name}", data=data, files={"file": ("contacts.csv", content)})


REPEATED = [["Asha", ASHA, "again"], ["Asha", ASHA, ""]]


@pytest.mark.parametrize("form", [{}, {"invalid": "skip"}, {"duplicates": "first"}], ids=["refused", "skip", "first"])
async def test_rows_whose_person_another_row_has_are_found_with_that_row(
    start_service: StartService, form: dict[str, str]
) -> None:
    async with connect_provider(start_service) as (service, _):
        header, *rows = read_rows(await give_back(service, "duplicates.csv", FILE, **form))
        assert header == ["name", "customer_phone", "note", "outcome_error"]
        assert [row[:3] for row in rows] == REPEATED
        assert [row[3].partition(" again")[0] for row in rows] == [
            "file: line 5, column customer_phone: has the phone of line 2",
            "file: line 6 has 2 cells, the header 3: quote cells that hold the delimiter; has the phone of line 2",
        ]
        rejected = read_rows(await give_back(service, "rejected.csv", FILE, **form))
        assert [row[0] for row in rejected[1:]] == ["Ravi", "Dev"]


async def test_an_upload_keeps_the_repeated_rows_that_it_left_out(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        batch = (await upload(service, FILE, invalid="skip", duplicates="first")).json()["data"]
        assert (batch["file"]["repeated"], batch["file"]["skipped"]) == (1, 3)
        answer = await service.get(f"/v1/uploads/{batch['upload_id']}/duplicates.csv")
        header, *rows = read_rows(answer)
        assert [row[:3] for row in rows] == REPEATED
        before = count_uploads(sandbox)
        for row in rows:  # as they are, they call nobody a second time
            for kind in ("CSV UTF-8", "workbook"):
                again = await upload(service, SAVED[kind]([header, row]), name="Again", region="IN")
                assert (again.status_code, again.json()["error"]["type"]) == (400, "invalid_request")
        assert count_uploads(sandbox) == before
        corrected = [header, [*rows[0][:1], RAVI, *rows[0][2:4], ""]]
        other = (await upload(service, save_csv(corrected), name="Other")).json()["data"]
        assert phones_of(sandbox, other["id"]) == [RAVI]


async def test_where_every_row_is_called_there_are_no_repeated_rows(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        content = f"customer_phone\n{ASHA}\n{ASHA}\n"
        assert (await give_back(service, "duplicates.csv", content, duplicates="all")).status_code == 404
        batch = (await upload(service, content, duplicates="all")).json()["data"]
        assert (batch["file"]["duplicate_count"], batch["file"]["repeated"]) == (1, 0)
        assert (await service.get(f"/v1/uploads/{batch['upload_id']}/duplicates.csv")).status_code == 404


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("column", ["", "note2", "outcome_error"], ids=["nameless", "named", "errors"])
async def test_a_repeated_row_stays_an_error_while_any_cell_says_so(
    start_service: StartService, kind: str, column: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        header, row, _ = read_rows(await give_back(service, "duplicates.csv", FILE))
        *cells, mark = row
        assert mark == "(to correct: repeats line 2; then empty this cell)"
        if column == "outcome_error":
            rows = [header, [*cells[:3], mark]]
        else:
            rows = [[*header, column] if column else header, row]
        answer = await upload(service, SAVED[kind](rows), name="Again", region="IN")
        assert answer.status_code == 400
        assert "repeats line 2 of the file before: correct the phone, then empty the cell" in answer.text
        content = SAVED[kind](rows).decode("latin-1").encode("latin-1")
        again = await service.post(
            "/v1/batch-call/rejected.csv", data={"agent_id": "123", "name": "x", "region": "IN"},
            files={"file": ("contacts.csv", content)},
        )  # fmt: skip
        assert mark in read_rows(again)[1]
        assert count_uploads(sandbox) == (0, 0)


@pytest.mark.parametrize("is_dry", ["true", "false"])
async def test_a_row_with_an_empty_cell_and_no_correction_warns_that_people_are_called_again(
    start_service: StartService, is_dry: str
) -> None:
    async with connect_provider(start_service) as (service, _):
        batch = (await upload(service, FILE, invalid="skip", duplicates="first")).json()["data"]
        assert batch["file"]["called"] is None
        answer = await service.get(f"/v1/uploads/{batch['upload_id']}/duplicates.csv")
        header, row, _ = read_rows(answer)
        content = save_csv([header, [*row[:4], ""]])
        answered = (await upload(service, content, name="Again", dry_run=is_dry)).json()["data"]
        file = answered if is_dry == "true" else answered["file"]
        assert (file["recipients"], file["called"]["people"]) == (1, 1)
        assert "1 number of it was called within 7d, or will be" in file["warnings"][-1]
        corrected = save_csv([header, ["Asha", RAVI, *row[2:4], ""]])
        fine = (await upload(service, corrected, name="Fine", dry_run="true")).json()["data"]
        assert not any("given back, and" in warning for warning in fine["warnings"])


@pytest.mark.parametrize("end", ["", "\n", "\nDev,+919876543212,x\n"])
async def test_a_line_that_is_no_csv_comes_back_as_it_was(start_service: StartService, end: str) -> None:
    async with connect_provider(start_service) as (service, _):
        content = f'name,customer_phone,note\nAsha,{ASHA},good\n"=Ravi,{RAVI},3{end}'
        header, *rows = read_rows(await give_back(service, "rejected.csv", content))
        assert rows[0][:3] == [f'"=Ravi,{RAVI},3', "", ""]
        assert "is not valid CSV" in rows[0][3]
        again = await upload(service, save_csv([header, *rows]), name="Again", invalid="skip")
        assert (again.status_code, "no row is left to call" in again.text) == (400, True)
        long = f'customer_phone\n"=+{ASHA}{"x" * 5000}'
        ((cell, *_),) = read_rows(await give_back(service, "rejected.csv", long))[1:]
        assert cell == f'"=+{ASHA}{"x" * 5000}'[:1000]
