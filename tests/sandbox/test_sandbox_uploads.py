"""The sandbox accepts the uploads that the provider's document allows and refuses others with the provider's errors."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.sandbox import SandboxOptions, SteppedClock, sample_contacts, serve_sandbox
from service.sandbox.sandbox import Sandbox

FORM = {"agent_id": "123", "name": "March Follow Ups"}
CONTACTS = sample_contacts(50, seed=1)
START = 1_773_657_000.0  # 2026-03-16T10:30:00Z


@contextlib.asynccontextmanager
async def connect(
    clock: SteppedClock | None = None, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Sandbox]]:
    """A client and a sandbox, whose time stands still unless a clock is given."""
    settings = SandboxOptions(**{"seed": 1, "rate_limit": 10_000, "first_batch_id": 456, **options})
    async with (
        serve_sandbox(settings, clock=clock or SteppedClock(START, allowance=0)) as running,
        httpx.AsyncClient(base_url=running.base_url, headers={"Authorization": "Bearer sandbox-key"}) as client,
    ):
        yield client, running.sandbox


async def upload(client: httpx.AsyncClient, content: str | bytes = CONTACTS, **form: str) -> httpx.Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.post("/v1/batch-call", data=FORM | form, files={"file": ("contacts.csv", data)})


async def test_an_upload_is_answered_in_the_documents_shape() -> None:
    async with connect() as (client, _):
        answer = await upload(client)
        assert answer.status_code == 200
        assert answer.json() == {
            "data": {
                "id": 456,
                "name": "March Follow Ups",
                "agent_id": 123,
                "status": "pending",
                "total_recipients": 50,
                "created_at": "2026-03-16T10:30:00Z",
            }
        }
        assert (await client.get("/v1/batch-calls/456")).json() == answer.json()


async def test_a_batch_goes_from_pending_through_in_progress_to_completed() -> None:
    async with connect() as (client, sandbox):
        await upload(client)
        seen = [(await client.get("/v1/batch-calls/456")).json()["data"]["status"]]
        for seconds in (60, 1e6):
            await sandbox.advance(seconds)
            seen.append((await client.get("/v1/batch-calls/456")).json()["data"]["status"])
    assert seen == ["pending", "in_progress", "completed"]


@pytest.mark.parametrize(
    ("content", "part_of_message"),
    [
        ("", "customer_phone column"),
        ("phone\n+919876543210\n", "customer_phone column"),
        ("customer_phone,name\n", "no recipients"),
        ("customer_phone\n+919876543210\n9876543210\n", "Line 3"),
        ("customer_phone\n+0123456789\n", "E.164"),
        ("customer_phone\n+919876543210x\n", "E.164"),
        ("customer_phone,name\n+919876543210\n", "1 values for 2 columns"),
        ("customer_phone,name,name\n+919876543210,a,b\n", "same name"),
        ('customer_phone,name\n+919876543210,"a\n', "not readable"),
        (b"customer_phone,name\n+919876543210,\xff\n", "UTF-8"),
    ],
)
async def test_a_file_that_cannot_be_dialled_is_refused_and_the_message_says_why(
    content: str | bytes, part_of_message: str
) -> None:
    async with connect() as (client, sandbox):
        answer = await upload(client, content)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request"
        assert part_of_message in answer.json()["error"]["message"]
        assert (await client.get("/v1/batch-calls")).json()["data"] == []
        assert sandbox.journal.uploads_refused == 1


@pytest.mark.parametrize("form", [{"agent_id": "abc"}, {"agent_id": ""}, {"agent_id": "-1"}, {"name": " "}])
async def test_agent_and_name_are_checked(form: dict[str, str]) -> None:
    async with connect() as (client, _):
        answer = await upload(client, **form)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
        assert next(iter(form)) in answer.json()["error"]["message"]


async def test_a_file_is_required_and_must_be_named_csv() -> None:
    async with connect() as (client, _):
        missing = await client.post("/v1/batch-call", data=FORM)
        text = await client.post("/v1/batch-call", data=FORM, files={"file": ("contacts.txt", b"customer_phone")})
        broken = await client.post("/v1/batch-call", headers={"Content-Type": "multipart/form-data"}, content=b"x")
        assert [answer.status_code for answer in (missing, text, broken)] == [400, 400, 400]
        assert ".csv" in text.json()["error"]["message"]
        assert "boundary" in broken.json()["error"]["message"]


async def test_an_unknown_agent_and_an_unknown_batch_are_not_found() -> None:
    async with connect(agents=frozenset({1})) as (client, _):
        assert (await upload(client)).status_code == 404
        assert (await upload(client, agent_id="1")).status_code == 200
        for path in ("/v1/batch-calls/1", "/v1/batch-calls/abc", "/v1/batch-calls/1/metrics"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


async def test_the_same_file_twice_is_two_batches_and_everyone_is_called_twice() -> None:
    async with connect(SteppedClock()) as (client, sandbox):
        for _ in range(2):
            batch_id = (await upload(client)).json()["data"]["id"]
            await sandbox.wait_until_done(batch_id)
        log = (await client.get("/sandbox/log")).json()["data"]
    assert log["uploads"] == {hashlib.sha256(CONTACTS.encode()).hexdigest(): 2}
    assert [len(dials) for dials in log["dials_by_batch_and_phone"].values()] == [50, 50]


async def test_batches_are_listed_newest_first_by_agent_and_page() -> None:
    async with connect() as (client, _):
        for agent_id in ("1", "2", "1"):
            await upload(client, agent_id=agent_id)

        async def list_ids(query: str) -> list[int]:
            return [batch["id"] for batch in (await client.get(f"/v1/batch-calls{query}")).json()["data"]]

        assert await list_ids("") == [458, 457, 456]
        assert await list_ids("?agent_id=1") == [458, 456]
        assert await list_ids("?limit=1&offset=1") == [457]
        assert set((await client.get("/v1/batch-calls")).json()) == {"data"}
    async with connect(list_totals=True) as (client, _):
        await upload(client)
        body = (await client.get("/v1/batch-calls?limit=1")).json()
        assert (body["total"], body["has_more"]) == (1, False)


async def test_more_active_batches_than_allowed_are_refused() -> None:
    async with connect(max_active_batches=1) as (client, sandbox):
        await upload(client)
        refused = await upload(client)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "concurrent_call_limit_exceeded")
        assert refused.headers["Retry-After"]
        await sandbox.advance(1e6)
        assert (await upload(client)).status_code == 200


async def test_the_metrics_hold_the_contracts_identities_at_any_time() -> None:
    async with connect() as (client, sandbox):
        await upload(client)
        for _ in range(30):
            await sandbox.advance(400)
            m = (await client.get("/v1/batch-calls/456/metrics")).json()["data"]
            assert len(m) == 12
            statuses = ("completed", "busy", "failed", "no_answer", "socket_failure", "unreachable")
            assert m["total_processed"] == sum(m[f"{status}_count"] for status in statuses)
            assert m["total_processed"] + m["in_progress_count"] + m["pending_retry_count"] == 50
            assert m["success_rate"] == round(100 * m["success_count"] / 50, 1)
        states = [recipient["state"] for recipient in sandbox.recipients(456)]
        assert m["pending_retry_count"] == states.count("pending_retry")
        assert m["completed_count"] == states.count("completed") > 0
        assert m["failed_count"] == states.count("failed") + states.count("telephony_failed")


async def test_a_carrier_failure_is_counted_as_failed() -> None:
    phones = ("+919876543210", "+919876543211")
    script = {phones[0]: ("telephony_failed",), phones[1]: ("failed",)}
    async with connect(SteppedClock(), script=script) as (client, sandbox):
        await upload(client, "\n".join(("customer_phone", *phones)))
        await sandbox.wait_until_done(456)
        figures = (await client.get("/v1/batch-calls/456/metrics")).json()["data"]
        states = [recipient["state"] for recipient in sandbox.recipients(456)]
    assert (figures["failed_count"], figures["total_processed"]) == (2, 2)
    assert states == ["telephony_failed", "failed"]
