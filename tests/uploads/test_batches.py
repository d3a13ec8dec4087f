"""Uploads and batches over HTTP, in the provider's shapes, with the sandbox as the provider."""

import csv
import io
import json

import httpx
import pytest

from service.sandbox import sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.factories import store_batch
from tests.provider import connect_provider, count_uploads, upload

BATCH = {
    "id": 456,
    "name": "March Follow Ups",
    "agent_id": 123,
    "status": "pending",
    "total_recipients": 2,
    "created_at": "2026-03-16T10:30:00Z",
}
METRICS = {
    "avg_duration_seconds", "busy_count", "completed_count", "failed_count", "in_progress_count", "no_answer_count",
    "pending_retry_count", "socket_failure_count", "success_count", "success_rate", "total_processed",
    "unreachable_count",
}  # fmt: skip


async def test_an_upload_is_answered_and_shown_as_the_provider_does_it(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service)
        file = answer.json()["data"]["file"]
        assert (file["recipients"], file["countries"], file["skipped"], file["warnings"]) == (2, {"IN": 2}, 0, [])
        assert (answer.status_code, answer.json()) == (
            200,
            {"data": BATCH | {"upload_id": 1, "file": file, "withdrawn": 0}},
        )
        verdict = {"verdict": "unverified", "verdict_text": "Not compared with the provider yet."}
        assert (await service.get("/v1/batch-calls/456")).json() == {"data": BATCH | verdict}
        listed = {"data": [BATCH | verdict], "total": 1, "has_more": False}
        assert (await service.get("/v1/batch-calls")).json() == listed
        assert count_uploads(sandbox) == (1, 0)


async def test_an_upload_is_stored_with_its_recipients(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, _):
        await upload(service)
        (shown,) = (await service.get("/v1/uploads")).json()["data"]
        assert (shown["state"], shown["batch_id"], shown["recipients"], shown["detail"]) == ("uploaded", 456, 2, None)
    rows = await database.pool.fetch("SELECT recipient_no, phone, parameters FROM recipients ORDER BY recipient_no")
    assert [(row["recipient_no"], row["phone"], json.loads(row["parameters"])) for row in rows] == [
        (1, "+919876543210", {"customer_name": "Rahul", "loan_id": "LN-12345", "due_amount": "29000"}),
        (2, "+919812345678", {"customer_name": "Anita", "loan_id": "LN-67890", "due_amount": "15000"}),
    ]
    batch = await database.pool.fetchrow("SELECT columns, recipient_count, ref_token, ref_column FROM batches")
    assert batch is not None
    assert batch["columns"] == ["customer_phone", "customer_name", "loan_id", "due_amount"]
    assert (batch["recipient_count"], batch["ref_column"], bool(batch["ref_token"])) == (2, "outcome_ref", True)


async def test_the_provider_gets_every_column_as_it_was_and_a_reference_that_names_the_recipient(
    start_service: StartService, database: Database
) -> None:
    original = (
        'loan_id,customer_phone,note\r\nLN-1,+919876543210,"two\nlines, and ""quotes"""\r\nLN-2, +919812345678 ,é\r\n'
    )
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, original)).status_code == 200
        contacts = sandbox.sandbox.find_batch(456).contacts
        assert contacts.columns == ["loan_id", "customer_phone", "note", "outcome_ref"]
        token = await database.pool.fetchval("SELECT ref_token FROM batches")
        assert [contacts.read(row) for row in range(len(contacts))] == [
            ("+919876543210", {"loan_id": "LN-1", "note": 'two\nlines, and "quotes"', "outcome_ref": f"{token}-1"}),
            ("+919812345678", {"loan_id": "LN-2", "note": "é", "outcome_ref": f"{token}-2"}),
        ]


@pytest.mark.parametrize(("column", "expected"), [("", []), ("our_own_ref", ["our_own_ref"])])
async def test_the_reference_column_has_the_name_that_was_set_or_is_left_out(
    start_service: StartService, column: str, expected: list[str]
) -> None:
    async with connect_provider(start_service, OUTCOMES_REF_COLUMN=column) as (service, sandbox):
        assert (await upload(service)).status_code == 200
        columns = ["customer_phone", "customer_name", "loan_id", "due_amount"]
        contacts = sandbox.sandbox.find_batch(456).contacts
        assert contacts.columns == [*columns, *expected]
        assert list(csv.reader(io.StringIO(contacts.text)))[1][:4] == ["+919876543210", "Rahul", "LN-12345", "29000"]


async def test_a_file_that_is_meant_to_be_sent_twice_becomes_two_batches_with_references_of_their_own(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert [(await upload(service, force="true")).json()["data"]["id"] for _ in range(2)] == [456, 457]
        texts = [sandbox.sandbox.find_batch(batch_id).contacts.text for batch_id in (456, 457)]
        assert texts[0] != texts[1], "references must never be the same"


@pytest.mark.parametrize("column", ["outcome_ref", ""])
async def test_a_batch_that_was_called_to_its_end_has_the_providers_own_figures(
    start_service: StartService, column: str
) -> None:
    async with connect_provider(start_service, plays=True, OUTCOMES_REF_COLUMN=column) as (service, sandbox):
        assert (await upload(service, sample_contacts(60, seed=4))).status_code == 200
        await sandbox.sandbox.wait_until_done(456)
        ours = (await service.get("/v1/batch-calls/456/metrics")).json()["data"]
        theirs = sandbox.sandbox.figures(456)
        assert set(ours) == set(theirs) == METRICS
        assert theirs["total_processed"] == 60
        assert ours.pop("avg_duration_seconds") == pytest.approx(theirs.pop("avg_duration_seconds"), abs=0.1)
        assert ours == theirs
        assert (await service.get("/v1/unattributed")).json()["data"] == []


async def test_a_batch_that_nobody_was_called_for_has_twelve_figures_too(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url, recipients=500)
    metrics = (await service.get("/v1/batch-calls/456/metrics")).json()["data"]
    assert metrics == dict.fromkeys(METRICS, 0) | {"in_progress_count": 500}


async def test_the_list_is_paged_by_limit_and_offset_with_the_newest_first(
    service: httpx.AsyncClient, database_url: str
) -> None:
    for number in range(1, 26):
        agent_id = 123 + number % 2
        await store_batch(database_url, 1, batch_id=number, ref_token=None, agent_id=agent_id)
    await store_batch(database_url, 1, batch_id=None, ref_token=None)  # an upload whose answer was lost: no id to show

    async def read(**query: int) -> tuple[list[int], int, bool]:
        page = (await service.get("/v1/batch-calls", params=query)).json()
        return [batch["id"] for batch in page["data"]], page["total"], page["has_more"]

    assert await read() == (list(range(25, 5, -1)), 25, True)
    assert await read(offset=20) == (list(range(5, 0, -1)), 25, False)
    assert await read(limit=100) == (list(range(25, 0, -1)), 25, False)
    assert await read(limit=2, offset=3) == ([22, 21], 25, True)
    assert await read(limit=5, offset=20) == ([5, 4, 3, 2, 1], 25, False)
    assert await read(offset=1000) == ([], 25, False)
    assert await read(agent_id=124, limit=3) == ([25, 23, 21], 13, True)
    assert await read(agent_id=999) == ([], 0, False)


async def test_a_wrong_parameter_of_the_list_is_named(service: httpx.AsyncClient) -> None:
    wrong = {
        "limit": ["0", "101", "-1", "abc", "", "1.5", "٣", "9" * 5000],
        "offset": ["-1", "abc", "", "9" * 30],
        "agent_id": ["-1", "abc", "", "9" * 30],
    }
    for name, values in wrong.items():
        for value in values:
            answer = await service.get("/v1/batch-calls", params={name: value})
            assert answer.status_code == 400, (name, value)
            assert answer.json()["error"]["type"] == "invalid_request"
            assert answer.json()["error"]["message"].startswith(f"{name}: ")


async def test_an_unknown_batch_is_not_found_whatever_is_asked_of_it(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    for batch_id in ("457", "0", "-456", "abc", "4.56", "9" * 30, "%00", "٤٥٦"):
        for what in ("", "/metrics", "/outcomes"):
            answer = await service.get(f"/v1/batch-calls/{batch_id}{what}")
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found"), (batch_id, what)
