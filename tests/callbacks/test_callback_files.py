"""Callbacks are downloaded as every other list: the same filters as their list, results as columns, and times of a zone
that the file names."""

import csv
import io
import json
from typing import Any

import httpx
import openpyxl
import pytest

from service.exports import selection
from service.store.database import Database
from tests.callbacks.test_callbacks import NAMES, call, configure, mark, read
from tests.factories import AGENT_ID, BATCH_ID, phone_of, post_webhook, store_batch

ZONE = "Asia/Kolkata"
SAID = ["2026-02-01T10:00:00Z", "2026-03-01", "2099-03-16T11:30:00Z", "=1+1", "2099-03-16T11:30:00Z"]


@pytest.fixture
async def callbacks(service: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """A service with five callbacks, the second of which is done."""
    await configure(service)
    await store_batch(database.url)
    for recipient, value in enumerate(SAID, start=1):
        await post_webhook(service, call(recipient, value))
    assert (await mark(service, recipient=2, note="-2+3")).status_code == 200
    return service


async def read_file(service: httpx.AsyncClient, kind: str = "csv", **params: Any) -> httpx.Response:
    answer = await service.get(f"/v1/callbacks.{kind}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def read_table(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("rows", [1, 2, 10_000])
async def test_a_file_has_what_the_list_has_with_the_same_filters(
    callbacks: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(selection, "RANGE", rows)  # that the file is read by
    for params in (
        {}, {"state": "open"}, {"state": "overdue"}, {"state": "done"}, {"due_from": "2026-02-02"},
        {"due_to": "2026-03-01"}, {"agent_id": AGENT_ID}, {"agent_id": 7}, {"batch_id": BATCH_ID},
    ):  # fmt: skip
        listed = [(row["recipient"], row["state"], row["value"]) for row in await read(callbacks, **params)]
        answer = await read_file(callbacks, formulas="keep", **params)
        table = read_table(answer)
        assert [(int(row["recipient"]), row["state"], row["value"]) for row in table] == listed, params
        assert answer.headers["x-outcomes-rows"] == str(len(listed))


async def test_times_are_of_the_readers_zone_which_the_file_names(callbacks: httpx.AsyncClient) -> None:
    first = read_table(await read_file(callbacks, state="overdue"))[0]
    assert (first["due_at"], first["time_zone"]) == ("2026-02-01T10:00:00+00:00", "UTC")
    local = await read_file(callbacks, state="overdue", time_zone=ZONE, bom="true")
    assert local.content.startswith("\ufeff".encode())
    (row,) = read_table(local)
    assert (row["due_at"], row["time_zone"]) == ("2026-02-01T15:30:00+05:30", ZONE)


async def test_results_and_parameters_have_columns(callbacks: httpx.AsyncClient) -> None:
    row = read_table(await read_file(callbacks, state="overdue", results="columns"))[0]
    assert (row["results.intent"], row[f"results.{NAMES[0]}"]) == ("later", SAID[0])
    assert (row["phone"], row["result"], row["value"]) == (phone_of(1), NAMES[0], SAID[0])
    assert any(name.startswith("parameters.") for name in row)
    together = read_table(await read_file(callbacks, state="overdue"))[0]
    assert json.loads(together["results"])["intent"] == "later"


async def test_cells_are_no_formulas_and_a_workbook_has_times(callbacks: httpx.AsyncClient) -> None:
    by_recipient = {row["recipient"]: row for row in read_table(await read_file(callbacks))}
    assert (by_recipient["4"]["value"], by_recipient["2"]["note"]) == ("'=1+1", "'-2+3")
    answer = await read_file(callbacks, "xlsx", state="overdue", results="columns", time_zone=ZONE)
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    names, cells = list(book.worksheets[0].iter_rows(values_only=True))
    row = dict(zip(names, cells, strict=True))
    assert (str(row["due_at"]), row["time_zone"], row["results.intent"]) == ("2026-02-01 15:30:00", ZONE, "later")


async def test_every_format_is_there_and_what_does_not_fit_is_refused(callbacks: httpx.AsyncClient) -> None:
    lines = (await read_file(callbacks, "ndjson")).text.splitlines()
    assert [json.loads(line)["recipient"] for line in lines] == [1, 2, 3, 5, 4]
    assert (await read_file(callbacks, "parquet")).content.startswith(b"PAR1")
    for kind, params, status in (
        ("csv", {"batch_id": 9}, 404), ("txt", {}, 404), ("csv", {"state": "late"}, 400),
        ("csv", {"time_zone": "Mars"}, 400), ("xlsx", {"bom": "true"}, 400), ("ndjson", {"results": "columns"}, 400),
        ("csv", {"due_from": "2026-03-02", "due_to": "2026-03-01"}, 400), ("csv", {"limit": 1}, 400),
    ):  # fmt: skip
        assert (await callbacks.get(f"/v1/callbacks.{kind}", params=params)).status_code == status, (kind, params)
