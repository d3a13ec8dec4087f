"""Files for people: XLSX as another reader sees it, results as columns, local times, and a mark for Excel."""

import csv
import io
from datetime import datetime
from itertools import zip_longest
from typing import Any

import httpx
import openpyxl
import pytest
from openpyxl.utils.escape import unescape

from service.exports import selection, xlsx
from service.store.database import Database
from tests.conftest import StartService
from tests.exports.exported import export
from tests.exports.test_exports import BATCH, NASTY, fill
from tests.factories import AGENT_ID, BATCH_ID, make_payload, post_webhook, store_batch
from tests.provider import connect_provider, upload


def open_sheets(content: bytes) -> dict[str, list[list[Any]]]:
    """The cells of each sheet, as openpyxl reads them."""
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    return {sheet.title: [list(row) for row in sheet.iter_rows()] for sheet in book.worksheets}


def read_rows(content: bytes, sheet: str = "recipients") -> list[dict[str, Any]]:
    names, *rows = [[cell.value for cell in row] for row in open_sheets(content)[sheet]]
    return [dict(zip_longest(names, row)) for row in rows]


def read_table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("slice_bytes", [1, 2**17])
async def test_a_spreadsheet_holds_what_the_csv_holds_in_cells_of_their_kind(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, slice_bytes: int
) -> None:
    monkeypatch.setattr("service.exports.xlsx.SLICE_BYTES", slice_bytes)
    monkeypatch.setattr("service.exports.selection.RANGE", 7)
    await fill(service, database)
    answer = await export(service, f"{BATCH}/recipients.xlsx", time_zone="Asia/Kolkata")
    assert answer.headers["content-type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    assert answer.headers["content-disposition"].endswith('recipients.xlsx"')
    rows = read_rows(answer.content)
    table = read_table((await export(service, f"{BATCH}/recipients.csv", formulas="keep")).content)
    assert len(rows) == len(table) == 25
    assert list(rows[0]) == list(table[0])
    for row, line in zip(rows, table, strict=True):
        for name in ("batch_id", "phone", "parameters.loan_id", "state", "results", "event_id", "conversation_id"):
            assert (row.get(name) or "") == line[name], name
        assert (row["recipient"], row["attempts"]) == (int(line["recipient"]), int(line["attempts"]))
        assert row["is_final"] is (line["is_final"] == "true")
    assert rows[1]["last_attempt_at"] == datetime(2026, 3, 16, 18, 0)
    header, first, *_ = open_sheets(answer.content)["recipients"]
    assert header[0].font.b
    assert first[2].number_format == "@"
    times = [cell for cell in open_sheets(answer.content)["recipients"][2] if isinstance(cell.value, datetime)]
    assert {cell.number_format for cell in times} == {"yyyy\\-mm\\-dd hh:mm:ss"}
    about = {row[0].value: row[1].value for row in open_sheets(answer.content)["about"]}
    assert about == {
        "content": "recipients", "batch_id": str(BATCH_ID), "as_of": answer.headers["x-outcomes-as-of"],
        "verdict": "unverified", "time_zone": "Asia/Kolkata",
    }  # fmt: skip


async def test_attempts_and_batches_are_spreadsheets_too(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    attempts = read_rows((await export(service, f"{BATCH}/attempts.xlsx")).content, "attempts")
    assert [(row["recipient"], row["attempt"], row["status"]) for row in attempts][:2] == [
        (2, 1, "busy"),
        (2, 2, "completed"),
    ]
    (batch,) = read_rows((await export(service, "/v1/exports/batches.xlsx")).content, "batches")
    assert (batch["batch_id"], batch["agent_id"], batch["total_recipients"]) == (str(BATCH_ID), str(AGENT_ID), 25)
    assert batch["success_rate"] == 12
    everyone = read_rows((await export(service, "/v1/exports/recipients.xlsx")).content)
    assert [row["recipient"] for row in everyone] == list(range(1, 26))


async def test_no_cell_of_a_spreadsheet_is_a_formula_and_every_character_survives(start_service: StartService) -> None:
    odd = [*NASTY, "\x08bell\x07", "_x0041_", "a\r\nb", "<b>&amp;", "  blanks  ", "😀" * 5, "\ufffe"]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["customer_phone", "=note"])
    writer.writerows([f"+91{7_000_000_000 + n}", text] for n, text in enumerate(odd))
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service, file.getvalue())).status_code == 200
        listed = (await service.get(f"{BATCH}/recipients", params={"limit": 1000})).json()["data"]
        content = (await export(service, f"{BATCH}/recipients.xlsx")).content
        cells = [row[3] for row in open_sheets(content)["recipients"]]
        assert {cell.data_type for cell in cells} <= {"s", "inlineStr"}
        assert cells[0].value == "parameters.=note"
        shown = [unescape(cell.value) for cell in cells[1:]]
        expected = [row["parameters"]["=note"] for row in listed]
        assert [text.replace("\r\n", "\n") for text in shown] == [text.replace("\r\n", "\n") for text in expected]


async def test_a_cell_holds_no_more_than_a_spreadsheet_allows(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 2)
    await post_webhook(service, make_payload(recipient=1, results={"said": "😀" * 20_000}))
    await post_webhook(service, make_payload(recipient=2, results={"said": "x" * 32_767}))
    first, second = read_rows((await export(service, f"{BATCH}/recipients.xlsx", results="columns")).content)
    assert len(first["results.said"].encode("utf-16-le")) <= 2 * xlsx.MAX_CHARACTERS
    assert first["results.said"].startswith("😀😀")
    assert first["results.said"].endswith(xlsx.CUT_MARK)
    assert second["results.said"] == "x" * 32_767


async def test_more_rows_than_a_sheet_holds_are_refused_and_csv_is_named(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service, database)
    monkeypatch.setattr(selection, "MAX_ROWS", 5)
    for path, params in (
        ("recipients.xlsx", {}), ("attempts.xlsx", {}), ("recipients.xlsx", {"until": 6}),
        ("recipients.xlsx", {"max_attempts": 0}), ("attempts.xlsx", {"source": "webhook"}),
    ):  # fmt: skip
        answer = await service.get(f"{BATCH}/{path}", params=params)
        assert answer.status_code == 400, path
        message = answer.json()["error"]["message"]
        assert message.startswith("format: a sheet holds 5 rows")
        assert "csv" in message
    for path, params in (
        ("recipients.xlsx", {"until": 5}), ("recipients.xlsx", {"state": "completed"}),
        ("recipients.xlsx", {"min_attempts": 1}), ("attempts.xlsx", {"status": "completed"}),
        ("attempts.xlsx", {"until": 9}), ("recipients.csv", {}),
    ):  # fmt: skip
        assert (await service.get(f"{BATCH}/{path}", params=params)).status_code == 200, (path, params)


async def test_results_have_columns_and_what_has_none_is_kept_beside_them(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url, 4)
    for number, results in ((1, {"a": "=1+1", "b": 5, "z": 1}), (2, {"b": {"c": [1]}, "a": None}), (3, {"b": False})):
        await post_webhook(service, make_payload(recipient=number, results=results))
    monkeypatch.setattr(selection, "MAX_RESULT_COLUMNS", 2)
    table = read_table((await export(service, f"{BATCH}/recipients.csv", results="columns")).content)
    names = list(table[0])
    assert names[names.index("results.a") :][:3] == ["results.a", "results.b", "results"]
    assert [(row["results.a"], row["results.b"], row["results"]) for row in table] == [
        ("'=1+1", "5", '{"z": 1}'), ("", '{"c": [1]}', ""), ("", "false", ""), ("", "", ""),
    ]  # fmt: skip
    rows = read_rows((await export(service, f"{BATCH}/recipients.xlsx", results="columns")).content)
    assert [(row["results.a"], row["results.b"], row["results"]) for row in rows] == [
        ("=1+1", 5, '{"z": 1}'), (None, '{"c": [1]}', None), (None, False, None), (None, None, None),
    ]  # fmt: skip
    attempts = read_table((await export(service, f"{BATCH}/attempts.csv", results="columns")).content)
    assert [row["results.b"] for row in attempts] == ["5", '{"c": [1]}', "false"]


async def test_parameters_have_columns_where_the_file_is_not_known_and_across_batches(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 2)
    await database.pool.execute("UPDATE batches SET columns = '{}'")
    await store_batch(database.url, 1, batch_id=BATCH_ID + 1, ref_token=None, first_phone=50)
    await database.pool.execute("UPDATE batches SET columns = '{customer_phone,city}' WHERE batch_id > $1", BATCH_ID)
    await database.pool.execute('UPDATE recipients SET parameters = \'{"late": "x"}\' WHERE recipient_no = 2')
    one = read_table((await export(service, f"{BATCH}/recipients.csv", results="columns")).content)
    assert [(row["parameters.late"], row["parameters.loan_id"], row["parameters"]) for row in one] == [
        ("", "LN-1", ""), ("x", "", ""),
    ]  # fmt: skip
    every = read_table((await export(service, "/v1/exports/recipients.csv", results="columns")).content)
    assert [(row["parameters.city"], row["parameters.loan_id"], row["parameters"]) for row in every] == [
        ("", "LN-1", ""), ("", "", ""), ("", "LN-1", ""),
    ]  # fmt: skip


async def test_times_are_local_with_their_offset_if_a_zone_is_given(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    for zone, expected in (
        ({}, "2026-03-16T12:30:00+00:00"), ({"time_zone": "Asia/Kolkata"}, "2026-03-16T18:00:00+05:30"),
        ({"time_zone": "America/New_York"}, "2026-03-16T08:30:00-04:00"),
    ):  # fmt: skip
        table = read_table((await export(service, f"{BATCH}/recipients.csv", **zone)).content)
        assert table[1]["last_attempt_at"] == expected
    assert (await service.get(f"{BATCH}/recipients.csv", params={"time_zone": "Mars"})).status_code == 400


async def test_a_csv_for_excel_begins_with_a_mark(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    plain = (await export(service, f"{BATCH}/recipients.csv")).content
    assert (await export(service, f"{BATCH}/recipients.csv", bom="true")).content == b"\xef\xbb\xbf" + plain
    assert (await export(service, "/v1/exports/batches.csv", bom="true")).content.startswith(b"\xef\xbb\xbfbatch_id")


async def test_an_option_of_another_format_is_refused(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 1)
    for path, params, name in (
        ("recipients.xlsx", {"bom": "true"}, "bom"), ("recipients.ndjson", {"results": "columns"}, "results"),
        ("recipients.xlsx", {"formulas": "keep"}, "formulas"), ("recipients.xlsx", {"layout": "upload"}, "layout"),
        ("recipients.csv", {"results": "columns", "layout": "upload"}, "results"),
    ):  # fmt: skip
        answer = await service.get(f"{BATCH}/{path}", params=params)
        assert (answer.status_code, answer.json()["error"]["message"].partition(":")[0]) == (400, name)
