"""Each download of people is in the audit log: who, which rows, the format and the filters, and no person."""

from typing import Any

import httpx
import pytest

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import sign_in
from tests.factories import BATCH_ID, phone_of, store_batch
from tests.provider import connect_provider, upload

BATCH = f"/v1/batch-calls/{BATCH_ID}"
FILE = "customer_phone,name\n+919876543210,Asha\n12,Ravi\n+919876543210,Again\n"


async def read_downloads(service: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The lines, oldest first."""
    lines = (await service.get("/v1/audit", params={"action": "download"})).json()["data"]
    return [{name: line[name] for name in ("actor", "subject", "outcome", "details")} for line in reversed(lines)]


@pytest.mark.parametrize(
    ("path", "params", "subject", "details"),
    [
        (f"{BATCH}/recipients.csv", {}, f"recipients of batch {BATCH_ID}", {"format": "csv"}),
        (
            f"{BATCH}/recipients.ndjson",
            {"state": "in_progress", "phone": phone_of(1), "parameter": "name:Asha", "result": "intent:x"},
            f"recipients of batch {BATCH_ID}",
            {"format": "ndjson", "state": "in_progress", "phone": "not recorded", "parameter": "not recorded",
             "result": "not recorded"},
        ),
        (f"{BATCH}/attempts.xlsx", {"time_zone": "Asia/Kolkata"}, f"attempts of batch {BATCH_ID}",
         {"format": "xlsx", "time_zone": "Asia/Kolkata"}),
        ("/v1/exports/recipients.parquet", {"agent_id": "123", "from": "2026-03-01"}, "recipients",
         {"format": "parquet", "agent_id": "123", "from": "2026-03-01"}),
        ("/v1/callbacks.csv", {"state": "open"}, "callbacks", {"format": "csv", "state": "open"}),
    ],
)  # fmt: skip
async def test_an_export_is_recorded_without_the_values_that_may_name_people(
    service: httpx.AsyncClient, database_url: str, path: str, params: dict[str, str], subject: str, details: Any
) -> None:
    await store_batch(database_url)
    assert (await service.get(path, params=params)).status_code == 200
    assert await read_downloads(service) == [
        {"actor": "setting", "subject": subject, "outcome": "begun", "details": details}
    ]


async def test_what_hands_out_nobody_is_not_recorded(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    for method, path, status in (
        ("GET", "/v1/exports/batches.csv", 200), ("HEAD", f"{BATCH}/recipients.csv", 200),
        ("GET", "/v1/batch-calls/9/recipients.csv", 404), ("GET", f"{BATCH}/recipients.csv?state=x", 400),
        ("GET", "/v1/uploads/9/rejected.csv", 404),
    ):  # fmt: skip
        assert (await service.request(method, path)).status_code == status, path
    assert await read_downloads(service) == []


async def test_rows_that_are_given_back_are_recorded(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        batch = (await upload(service, FILE, invalid="skip")).json()["data"]
        for name in ("rejected", "duplicates"):
            data = {"agent_id": "123", "name": "Asha"}
            file = {"file": ("asha.csv", FILE)}
            assert (await service.post(f"/v1/batch-call/{name}.csv", data=data, files=file)).status_code == 200
            asked = {"agent_id": "123", "name": "Asha"}
            assert (await service.post(f"/v1/batch-call/{name}.csv", params=asked, files=file)).status_code == 200
            assert (await service.get(f"/v1/uploads/{batch['upload_id']}/{name}.csv")).status_code == 200
        lines = await read_downloads(service)
        assert [line["subject"] for line in lines] == [
            "rejected rows of a file", "rejected rows of a file", f"rejected rows of upload {batch['upload_id']}",
            "repeated rows of a file", "repeated rows of a file", f"repeated rows of upload {batch['upload_id']}",
        ]  # fmt: skip
        assert lines[1]["details"] == {"format": "csv", "agent_id": "123", "name": "not recorded"}


async def test_a_download_in_the_console_is_that_of_the_person_and_shown_in_words(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    made = await Keys(database).create("manager", ("read", "people"), None)
    async with start_service() as service:
        visitor = await sign_in(service, made.key)
        await visitor.read(f"/console/batches/{BATCH_ID}/people.csv?state=in_progress")
        await visitor.read("/console/callbacks.csv?state=open")
        recipients, callbacks = await read_downloads(service)
        assert (recipients["actor"], recipients["subject"]) == ("key: manager", f"recipients of batch {BATCH_ID}")
        assert (callbacks["actor"], callbacks["subject"]) == ("key: manager", "callbacks")
        page = await (await sign_in(service)).read("/console/health/audit?action=download")
    for words in (f"recipients of batch {BATCH_ID}", "format: csv", "state: in_progress", "time zone: "):
        assert words in page


async def test_no_file_leaves_that_cannot_be_recorded(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await database.pool.execute("ALTER TABLE audit_log RENAME TO audit_log_away")
    try:
        answer = await service.get(f"{BATCH}/recipients.csv")
        assert (answer.status_code, phone_of(1) in answer.text) == (500, False)
    finally:
        await database.pool.execute("ALTER TABLE audit_log_away RENAME TO audit_log")
