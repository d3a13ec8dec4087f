"""The whole service under its connections' limits: a request that is cut off is not stored and may be repeated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from service.server.limits import ConnectionLimits
from service.store.database import Database
from tests.conftest import API_KEY, StartService, make_starter
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook
from tests.server.kept import Clock
from tests.server.raw_http import RawAnswer, RawConnection, connect_raw

UPLOAD = (
    "POST /v1/batch-call HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n"
    f"Authorization: Bearer {API_KEY}\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
).encode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start_limited(database_url: str, clock: Clock) -> StartService:
    """As ``start_service``, with the connections' time standing still."""
    return make_starter(database_url, ConnectionLimits(clock=clock, sweep_seconds=0.005))


@asynccontextmanager
async def pass_time(clock: Clock) -> AsyncIterator[None]:
    """Lets the connections' time pass quickly."""

    async def move() -> None:
        while True:
            clock.now += 1
            await asyncio.sleep(0.005)

    moving = asyncio.create_task(move())
    try:
        yield
    finally:
        moving.cancel()


async def read_while_time_passes(clock: Clock, connection: RawConnection) -> RawAnswer:
    async with pass_time(clock):
        return await connection.read_answer()


async def wait_for_stage(service: httpx.AsyncClient, stage: str, count: int) -> None:
    """Returns once so many connections are at it."""
    await eventually(lambda: read_metric(service, "outcomes_connections", stage=stage), lambda value: value == count)


async def count_events(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM events")
    return count


@pytest.mark.parametrize("sent", [0, 10])
async def test_a_webhook_whose_body_stalls_is_answered_503(
    start_limited: StartService, database: Database, clock: Clock, sent: int
) -> None:
    body = encode(make_payload(event_id="slow"))
    async with start_limited() as service:
        async with connect_raw(service) as connection:
            await connection.begin_webhook(body, f"Content-Length: {len(body)}")
            await connection.send(body[:sent])
            answer = await read_while_time_passes(clock, connection)
            assert answer.status == 503
            assert answer.read_problem()[0] == "unavailable"
            assert b"retry-after: " in answer.head
            assert await connection.read_to_end() == b""
        assert await read_metric(service, "outcomes_connections_cut_total", reason="slow_body") == 1
        assert await read_metric(service, "outcomes_backlog_events") == 0
        assert await read_metric(service, "outcomes_backlog_bytes") == 0
        assert await count_events(database) == 0
        assert (await post_webhook(service, body)).status_code == 204
        assert await count_events(database) == 1


async def test_a_stalled_upload_is_cut_off_and_logs_no_error(start_limited: StartService, clock: Clock) -> None:
    with capture_logs() as log:
        async with start_limited() as service, connect_raw(service) as connection:
            await connection.send(UPLOAD)
            answer = await read_while_time_passes(clock, connection)
            assert answer.status == 503
            assert "Nothing of the body arrived for 10 s" in answer.read_problem()[1]
    assert [line for line in log if line["log_level"] == "error"] == []


async def test_a_client_that_hangs_up_in_its_upload_is_no_failure_of_ours(start_service: StartService) -> None:
    with capture_logs() as log:
        async with start_service() as service:
            async with connect_raw(service) as connection:
                await connection.send(UPLOAD)
                await wait_for_stage(service, "body", 1)
                await connection.hang_up()
            await wait_for_stage(service, "body", 0)
    assert [line for line in log if line["log_level"] == "error"] == []


async def test_a_length_of_more_digits_than_a_number_takes_is_refused_and_fails_nothing(
    service: httpx.AsyncClient,
) -> None:
    for digits in ("9" * 5000, "0" * 5000 + "1"):
        async with connect_raw(service) as connection:
            await connection.begin_webhook(b"", f"Content-Length: {digits}")
            answer = await connection.read_answer()
            assert answer.status == 400
            assert answer.read_problem()[0] == "invalid_request"
    assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="failed") == 0
    assert await read_metric(service, "outcomes_connections_cut_total", reason="malformed") == 2


async def test_open_connections_are_counted_by_stage(service: httpx.AsyncClient) -> None:
    async with connect_raw(service), connect_raw(service) as begun:
        await begun.send(b"GET /heal")
        await wait_for_stage(service, "head", 1)
        assert await read_metric(service, "outcomes_connections", stage="silent") == 1
        assert await read_metric(service, "outcomes_connections", stage="answering") == 1  # who reads this


async def test_probes_are_answered_while_all_slots_are_in_use(start_service: StartService) -> None:
    async with start_service(OUTCOMES_MAX_CONNECTIONS="1") as service, connect_raw(service) as waiting:
        await waiting.send(
            f"GET /v1/feed?wait=30 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {API_KEY}\r\n\r\n".encode()
        )
        async with httpx.AsyncClient(base_url=service.base_url, headers={"connection": "close"}) as probe:
            await eventually(lambda: read_metric(probe, "outcomes_feed_waiters"))
            assert (await probe.get("/healthz")).status_code == 200
            assert (await probe.get("/readyz")).status_code == 200
            refused = await probe.get("/v1/feed", headers=service.headers)
            assert refused.status_code == 503
            assert refused.json()["error"]["type"] == "unavailable"
            assert int(refused.headers["retry-after"]) > 0
            assert await read_metric(probe, "outcomes_connections_cut_total", reason="full") == 1
