"""Bodies over the limit, and senders that stop halfway or hang up."""

import asyncpg
import httpx
import pytest

from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook
from tests.locks import WAITING, hold_ingest_lock
from tests.server.raw_http import connect_raw

LIMIT = 100_000
DEADLINE_SECONDS = 20.0


def make_body(size_bytes: int) -> bytes:
    """A readable event of exactly this size."""
    payload = make_payload(event_id="sized")
    payload["data"]["transcript"] = ""
    payload["data"]["transcript"] = "x" * (size_bytes - len(encode(payload)))
    return encode(payload)


async def wait_for_metric(service: httpx.AsyncClient, name: str, **labels: str) -> None:
    await eventually(lambda: read_metric(service, name, **labels))


async def count_rows(database: Database) -> int:
    count: int = await database.pool.fetchval(
        "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM quarantine)"
    )
    return count


async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(
    start_service: StartService, database: Database
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES=str(LIMIT)) as service:
        answer = await post_webhook(service, make_body(LIMIT + 1))
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request"
        assert "OUTCOMES_MAX_BODY_BYTES" in answer.json()["error"]["message"]
        assert await count_rows(database) == 0
        assert (await post_webhook(service, make_body(LIMIT))).status_code == 204
        assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="too_large") == 1


async def test_a_content_length_over_the_limit_is_refused_before_any_of_the_body_was_sent(
    start_service: StartService,
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES=str(LIMIT)) as service, connect_raw(service) as connection:
        await connection.begin_webhook(b"", f"Content-Length: {LIMIT + 1}")
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("chunk_bytes", [LIMIT, 1000])
async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_over_the_limit(
    start_service: StartService, database: Database, chunk_bytes: int
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES=str(LIMIT)) as service, connect_raw(service) as connection:
        await connection.begin_webhook(b"", "Transfer-Encoding: chunked")
        for _ in range(LIMIT // chunk_bytes):
            await connection.send_chunk(b"x" * chunk_bytes)
        await connection.send_chunk(b"x")
        # The last chunk, which would end the body, is never sent: the answer and the end of the connection come first.
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 413 ")
        assert await count_rows(database) == 0
        assert await read_metric(service, "outcomes_backlog_bytes") == 0


async def test_a_body_in_chunks_is_verified_and_kept_as_a_whole(service: httpx.AsyncClient, database: Database) -> None:
    body = make_body(LIMIT)
    async with connect_raw(service) as connection:
        await connection.begin_webhook(body, "Transfer-Encoding: chunked", "Connection: close")
        for start in range(0, len(body), 999):
            await connection.send_chunk(body[start : start + 999])
        await connection.send_chunk(b"")
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 204 ")
    assert await database.pool.fetchval("SELECT body FROM event_bodies") == body


async def test_a_sender_that_hangs_up_halfway_leaves_nothing(service: httpx.AsyncClient, database: Database) -> None:
    body = make_body(LIMIT)
    async with connect_raw(service) as connection:
        await connection.begin_webhook(body, f"Content-Length: {len(body)}")
        await connection.send(body[:-1])
        await connection.hang_up()
    await wait_for_metric(service, "outcomes_webhooks_total", target="default", answer="disconnected")
    assert await count_rows(database) == 0
    assert await read_metric(service, "outcomes_backlog_events") == 0
    assert await read_metric(service, "outcomes_backlog_bytes") == 0


async def test_a_sender_that_hangs_up_after_its_body_has_its_event_stored_all_the_same(
    service: httpx.AsyncClient, database_url: str
) -> None:
    holder = await asyncpg.connect(database_url)
    body = make_body(2000)
    try:
        async with hold_ingest_lock(holder):
            async with connect_raw(service) as connection:
                await connection.begin_webhook(body, f"Content-Length: {len(body)}")
                await connection.send(body)
                await eventually(lambda: holder.fetchval(WAITING))
                await connection.hang_up()
            assert (await service.get("/v1/events/sized")).status_code == 404
    finally:
        await holder.close()
    await wait_for_metric(service, "outcomes_webhooks_total", target="default", answer="stored")
    assert (await service.get("/v1/events/sized")).json()["data"]["disposition"] == "unattributed"


async def test_a_refused_body_holds_nothing_of_the_backlog(service: httpx.AsyncClient) -> None:
    answer = await post_webhook(service, make_body(LIMIT), secret=SECRET + "!")
    assert answer.status_code == 401
    assert await read_metric(service, "outcomes_backlog_events") == 0
    assert await read_metric(service, "outcomes_backlog_bytes") == 0
