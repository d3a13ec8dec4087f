"""Overload is refused with 503 and Retry-After within the provider's 10 s; memory is bounded; the service recovers."""

import asyncio
import re
import time

import httpx
import pytest

from service.store.database import connect
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook, store_batch
from tests.locks import hold_ingest_lock
from tests.server.raw_http import connect_raw

WAITING = 40
LIMITS = BacklogLimits(events=WAITING, hold_seconds=1.0)


async def send(client: httpx.AsyncClient, recipient: int) -> httpx.Response:
    return await post_webhook(client, make_payload(recipient=recipient, event_id=f"event-of-{recipient}"))


async def read_backlog(client: httpx.AsyncClient) -> float:
    metrics = (await client.get("/metrics")).text
    found = re.search(r"^outcomes_backlog_events (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_events_that_cannot_be_stored_are_refused_and_accepted_later(
    start_service: StartService, database_url: str
) -> None:
    await store_batch(database_url, 200)
    async with start_service(LIMITS) as client:
        assert (await send(client, 200)).status_code == 204
        blocker = await connect(database_url)
        async with hold_ingest_lock(blocker):
            held = [asyncio.create_task(send(client, recipient)) for recipient in range(1, WAITING + 1)]
            await eventually(lambda: read_backlog(client), lambda held: held >= WAITING)
            started = time.monotonic()
            at_once = await asyncio.gather(*(send(client, recipient) for recipient in range(101, 121)))
            assert time.monotonic() - started < LIMITS.hold_seconds
            assert {answer.status_code for answer in at_once} == {503}
            assert await read_backlog(client) == WAITING

            answers = [*at_once, *await asyncio.gather(*held)]
            assert {answer.status_code for answer in answers} == {503}
            for answer in answers:
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["error"]["type"] == "unavailable"
            assert await read_backlog(client) == 0
        await blocker.close()
        again = [await send(client, recipient) for recipient in (*range(1, WAITING + 1), *range(101, 121))]
        assert {answer.status_code for answer in again} == {204}
        outcomes = (await client.get("/v1/batch-calls/456/outcomes")).json()["data"]
        assert outcomes["recipients"]["processed"] == 1 + WAITING + 20


async def test_waiting_bodies_are_also_limited_in_bytes(start_service: StartService, database_url: str) -> None:
    await store_batch(database_url)
    async with start_service(BacklogLimits(body_bytes=20_000)) as client:
        payload = make_payload()
        payload["data"]["transcript"] = "x" * 30_000
        answer = await post_webhook(client, payload)
        assert answer.status_code == 503
        assert (await send(client, 1)).status_code == 204


async def test_a_webhook_is_refused_before_its_body_is_read_while_too_much_waits(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database_url)
    async with start_service() as client, connect_raw(client) as connection:
        with monkeypatch.context() as behind:
            behind.setattr("service.webhooks.committer.MAX_WAIT_SHARE", -1.0)  # as if every wait took too long
            await connection.begin_webhook(b"", "Content-Length: 1000")
            answer = await connection.read_to_end()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in answer
        assert (await send(client, 1)).status_code == 204
