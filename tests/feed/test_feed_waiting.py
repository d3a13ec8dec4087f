"""Waiting for the feed: woken by a change on any replica, bounded, and over when the client or the service goes."""

import asyncio
import signal

import httpx
import pytest

from service.feed.watch import FeedWatch
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.conftest import API_KEY, StartService
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import decode, make_payload, post_webhook, store_batch
from tests.feed.feeding import read_page
from tests.processes import serve
from tests.webhooks.ingesting import ingest


async def wait_for_waiters(service: httpx.AsyncClient, count: int) -> None:
    """Returns once so many wait."""
    await eventually(lambda: read_metric(service, "outcomes_feed_waiters"), lambda value: value == count)


async def test_a_change_that_another_replica_commits_wakes_those_that_wait(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    async with start_service() as first, start_service() as second:
        waiting = [asyncio.create_task(read_page(first, wait=30)) for _ in range(5)]
        await wait_for_waiters(first, 5)
        assert (await post_webhook(second, make_payload(recipient=3))).status_code == 204
        for page in await asyncio.gather(*waiting):
            assert [entry["recipient"] for entry in page["data"]] == [3]
        await wait_for_waiters(first, 0)


async def test_what_is_there_already_is_not_waited_for(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await post_webhook(service, make_payload())
    async with asyncio.timeout(20):
        assert len((await read_page(service, wait=30))["data"]) == 1


async def test_without_a_change_the_answer_is_an_empty_page(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await post_webhook(service, make_payload())
    position = (await read_page(service))["next"]
    assert await read_page(service, after=position, wait=1) == {"data": [], "next": position, "has_more": False}


async def test_one_too_many_is_refused_loudly(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.feed.watch.MAX_WAITERS", 2)
    await store_batch(database.url)
    async with start_service() as service:
        waiting = [asyncio.create_task(read_page(service, wait=30)) for _ in range(2)]
        await wait_for_waiters(service, 2)
        refused = await service.get("/v1/feed", params={"wait": 30})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["type"] == "unavailable"
        assert (await read_page(service))["data"] == []
        await post_webhook(service, make_payload())
        assert [len(page["data"]) for page in await asyncio.gather(*waiting)] == [1, 1]


async def test_a_client_that_hangs_up_frees_its_place(start_service: StartService) -> None:
    async with start_service() as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.base_url.port)
        writer.write(f"GET /v1/feed?wait=30 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n\r\n".encode())
        await wait_for_waiters(service, 1)
        writer.close()
        await wait_for_waiters(service, 0)


async def test_a_stopping_service_answers_waiting_readers_at_once_and_exits_with_0(database_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        waiting = asyncio.create_task(serving.client.get("/v1/feed", params={"wait": 30}))
        await wait_for_waiters(serving.client, 1)
        serving.process.send_signal(signal.SIGTERM)
        answer = await waiting
        assert (answer.status_code, answer.json()) == (200, {"data": [], "next": 0, "has_more": False})
        assert await serving.end(0) == 0
        assert serving.log[-1]["event"] == "stopped"


async def watch_briefly(watch: FeedWatch, *waits: tuple[int, float]) -> list[bool]:
    """What each of these waits comes to."""
    running = asyncio.create_task(watch.run())
    try:
        return await asyncio.gather(*(watch.wait(after, seconds) for after, seconds in waits))
    finally:
        running.cancel()


async def test_all_waiters_share_one_poll_and_without_waiters_there_is_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url)
    looks: list[int] = []
    look = database.queries.get_last_position

    async def count(pool: object) -> int:
        looks.append(1)
        return int(await look(pool))

    monkeypatch.setattr(database.queries, "get_last_position", count)
    watch = FeedWatch(database, Metrics(), interval_seconds=0.0)
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    assert looks == []
    await ingest(database, *decode(make_payload()))
    assert all(await asyncio.gather(*(watch.wait(0, 30) for _ in range(50))))
    assert sum(looks) < 5
    await asyncio.sleep(0)
    seen = sum(looks)
    for _ in range(10):  # each lets the watch run
        await database.pool.execute("SELECT 1")
    assert sum(looks) == seen
    running.cancel()


async def test_readers_at_the_end_keep_waiting_while_others_are_woken(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload()))
    last = await database.queries.get_last_position(database.pool)
    watch = FeedWatch(database, Metrics(), interval_seconds=0.0)
    assert await watch_briefly(watch, (last - 1, 30), (last, 0.05)) == [True, False]


async def test_while_the_database_is_away_nobody_is_left_waiting(database: Database) -> None:
    watch = FeedWatch(database, Metrics())
    database.pool.terminate()
    assert await watch_briefly(watch, (0, 30)) == [True]


async def test_nobody_waits_once_waiting_has_ended(database: Database) -> None:
    watch = FeedWatch(database, Metrics())
    watch.end_waits()
    assert await watch.wait(0, 30) is False
