"""Postgres goes away under the running service and comes back: webhooks are held, then refused loudly, then taken."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook
from tests.postgres import PostgresServer, find_programs

PROVIDER_PATIENCE_SECONDS = 10.0
DEADLINE_SECONDS = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this file's own, since it is stopped and started."""
    server = PostgresServer(find_programs())
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def url(server: PostgresServer) -> str:
    return await create_database(server, "template0")


async def wait_until_held(service: httpx.AsyncClient, count: int) -> None:
    """Returns once so many webhooks wait, and Postgres was found away at least once."""
    await eventually(lambda: read_metric(service, "outcomes_backlog_events"), lambda held: held >= count)
    await eventually(lambda: read_metric(service, "outcomes_group_failures_total"))


async def test_a_webhook_is_held_then_refused_inside_the_providers_patience_and_the_service_comes_back_by_itself(
    start_service: StartService, server: PostgresServer, url: str
) -> None:
    async with start_service(OUTCOMES_DATABASE_URL=url) as service:
        assert (await post_webhook(service, make_payload(event_id="before"))).status_code == 204
        assert (await service.get("/readyz")).status_code == 200
        await asyncio.to_thread(server.stop)

        began = time.monotonic()
        sent = asyncio.create_task(post_webhook(service, make_payload(event_id="during")))
        await wait_until_held(service, 1)
        # It may remember being ready for a second.
        unready = await eventually(lambda: service.get("/readyz"), lambda answer: answer.status_code != 200)
        assert (unready.status_code, int(unready.headers["retry-after"]) > 0) == (503, True)
        assert (await service.get("/healthz")).status_code == 200
        answer = await sent
        assert 5.0 < time.monotonic() - began < PROVIDER_PATIENCE_SECONDS
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0

        await asyncio.to_thread(server.start)
        assert (await post_webhook(service, make_payload(event_id="during"))).status_code == 204
        assert (await service.get("/v1/events/before")).status_code == 200
        assert (await service.get("/v1/events/during")).status_code == 200
        await eventually(lambda: service.get("/readyz"), lambda answer: answer.status_code == 200)


async def test_a_webhook_that_is_held_is_taken_when_postgres_comes_back_in_time(
    start_service: StartService, server: PostgresServer, url: str
) -> None:
    async with start_service(OUTCOMES_DATABASE_URL=url) as service:
        await asyncio.to_thread(server.stop)
        sent = [asyncio.create_task(post_webhook(service, make_payload(event_id=f"held-{n}"))) for n in range(20)]
        await wait_until_held(service, 20)
        await asyncio.to_thread(server.start)
        assert {answer.status_code for answer in await asyncio.gather(*sent)} == {204}
        for number in range(20):
            assert (await service.get(f"/v1/events/held-{number}")).status_code == 200
        assert await read_metric(service, "outcomes_backlog_events") == 0


async def test_a_full_backlog_answers_at_once_and_empties_when_the_held_are_refused(
    start_service: StartService, server: PostgresServer, url: str
) -> None:
    limits = BacklogLimits(events=3, hold_seconds=2.0)
    async with start_service(limits, OUTCOMES_DATABASE_URL=url) as service:
        await asyncio.to_thread(server.stop)
        held = [asyncio.create_task(post_webhook(service, make_payload())) for _ in range(3)]
        await wait_until_held(service, 3)
        refused = await post_webhook(service, make_payload())
        assert not any(task.done() for task in held), "the full backlog answered only when there was room again"
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {503}
        assert await read_metric(service, "outcomes_backlog_events") == 0
        assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="overloaded") == 4
        await asyncio.to_thread(server.start)
        assert (await post_webhook(service, make_payload())).status_code == 204


async def test_readers_get_an_error_in_the_common_shape_and_may_retry(
    start_service: StartService, server: PostgresServer, url: str
) -> None:
    async with start_service(OUTCOMES_DATABASE_URL=url) as service:
        await asyncio.to_thread(server.stop)
        answer = await service.get("/v1/batch-calls")
        assert answer.status_code == 503
        assert set(answer.json()["error"]) == {"message", "type"}
        await asyncio.to_thread(server.start)
        assert (await service.get("/v1/batch-calls")).status_code == 200
