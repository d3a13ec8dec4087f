"""A callback that is due on a day is due on that day for every reader, wherever they are: a day has no zone."""

import csv
import io
import json
from datetime import date

import httpx
import openpyxl
import pyarrow.parquet as pq
import pytest

from service.store.database import Database
from tests.callbacks.test_callbacks import NAMES, call, configure, read
from tests.console.visiting import sign_in
from tests.factories import BATCH_ID, phone_of, post_webhook, store_batch

SAID = ["2099-11-30", "2099-12-01", "2099-12-02", "2099-12-01T00:30:00Z"]
DAY = {"due_from": "2099-12-01", "due_to": "2099-12-01"}
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12"]


async def prepare(service: httpx.AsyncClient, database: Database, zone: str = "UTC") -> None:
    """Four callbacks, three of which are due on a day."""
    await configure(service, time_zone=zone)
    await store_batch(database.url)
    for recipient, value in enumerate(SAID, start=1):
        await post_webhook(service, call(recipient, value))


@pytest.mark.parametrize("setting", ZONES)
async def test_a_day_is_found_by_itself_in_every_zone(
    service: httpx.AsyncClient, database: Database, setting: str
) -> None:
    await prepare(service, database, setting)
    for reader in ZONES:
        rows = await read(service, **DAY, time_zone=reader)
        days = [row["due_on"] for row in rows if row["is_day"]]
        assert days == ["2099-12-01"], reader
        # A time is compared in the reader's zone.
        assert (SAID[3] in [row["value"] for row in rows]) == (reader in {"UTC", "Asia/Kolkata", "Pacific/Kiritimati"})
        for edge, found in (({"due_to": "2099-12-01"}, SAID[:2]), ({"due_from": "2099-12-01"}, SAID[1:3])):
            rows = await read(service, **edge, time_zone=reader)
            assert [row["due_on"] for row in rows if row["is_day"]] == found, (reader, edge)
        pages = await service.get("/v1/callbacks.ndjson", params=DAY | {"time_zone": reader})
        assert [row["due_on"] for row in map(json.loads, pages.text.splitlines()) if row["is_day"]] == days


async def test_times_as_filters_are_compared_with_the_beginning_of_a_day(
    service: httpx.AsyncClient, database: Database
) -> None:
    await prepare(service, database)
    rows = await read(service, due_from="2099-12-01T00:00:00Z", due_to="2099-12-01T00:30:00Z")
    assert [row["value"] for row in rows] == [SAID[1]]
    assert (await service.get("/v1/callbacks", params={"due_from": "2099-02-30"})).status_code == 400


async def test_a_file_has_a_day_as_a_date_and_not_as_a_time(service: httpx.AsyncClient, database: Database) -> None:
    await prepare(service, database)
    asked = DAY | {"time_zone": "Asia/Kolkata"}
    answer = await service.get("/v1/callbacks.csv", params=asked)
    table = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert [(row["due_at"], row["due_on"]) for row in table] == [
        ("", "2099-12-01"), ("2099-12-01T06:00:00+05:30", ""),
    ]  # fmt: skip
    book = openpyxl.load_workbook(io.BytesIO((await service.get("/v1/callbacks.xlsx", params=asked)).content))
    names, cells, _ = list(book.worksheets[0].iter_rows(values_only=True))
    row = dict(zip(names, cells, strict=True))
    assert (row["due_at"], str(row["due_on"])) == (None, "2099-12-01 00:00:00")
    cell = book.worksheets[0].cell(2, names.index("due_on") + 1)
    assert cell.number_format.replace("\\", "") == "yyyy-mm-dd"
    parquet = pq.read_table(io.BytesIO((await service.get("/v1/callbacks.parquet", params=asked)).content))
    assert parquet["due_on"].to_pylist() == [date(2099, 12, 1), None]


async def test_the_console_shows_the_day_to_a_viewer_in_another_zone(
    service: httpx.AsyncClient, database: Database
) -> None:
    await prepare(service, database)
    visitor = await sign_in(service)
    visitor.cookies.set("outcomes_zone", "America/New_York")
    page = await visitor.read("/console/callbacks?due_from=2099-12-01&due_to=2099-12-01")
    assert 'role="rowheader">1 Dec 2099<' in page
    assert "2099-12-02" not in page
    assert "Nov 2099" not in page
    person = await visitor.post(f"/console/batches/{BATCH_ID}/people/2")
    shown = await visitor.read(person.headers["location"])
    assert 'Callback due</strong> <span class="muted">1 Dec 2099<' in shown


async def test_the_feed_and_the_timeline_have_the_day(service: httpx.AsyncClient, database: Database) -> None:
    await prepare(service, database)
    entries = (await service.get("/v1/feed")).json()["data"]
    shown = {entry["recipient"]: entry["callbacks"][0]["due_on"] for entry in entries}
    assert shown == {1: "2099-11-30", 2: "2099-12-01", 3: "2099-12-02", 4: None}
    steps = (await service.get("/v1/people/timeline", params={"phone": phone_of(2)})).json()["data"]
    assert [step["due_on"] for step in steps if step["kind"] == "callback_due"] == ["2099-12-01"]
    assert [step["callbacks"][0]["due_on"] for step in steps if step["kind"] == "attempt"] == ["2099-12-01"]
    assert NAMES[0] == steps[0]["detail"].partition(":")[0]
