"""The wall clock jumps back and forth under load, across the ends of months, summer time and years: no acknowledged
event is lost or counted twice, the feed skips nothing, and everything works once the clock is correct again."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from service.app import prepare_schema
from tests.conftest import create_database
from tests.factories import store_batch
from tests.guarantees.checker import Checker, following_the_feed
from tests.guarantees.clock import WallClock, find_library
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, run, serve

RECIPIENTS = 5000
EACH = 60
NOW = datetime.now(UTC)
MOMENTS = {
    "an hour ahead": NOW + timedelta(hours=1),
    "an hour behind": NOW - timedelta(hours=1),
    "a day ahead": NOW + timedelta(days=1),
    "a day behind": NOW - timedelta(days=1),
    "just before summer time ends": datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC),
    "just before summer time begins": datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC),
    "the last second of a month": datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC),
    "the last second of a year, where no partition is made yet": datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC),
    "two years ahead": NOW + timedelta(days=730),
    "ten years behind": NOW - timedelta(days=3650),
}


@pytest.fixture
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WallClock]:
    library = find_library()
    if library is None:
        pytest.skip("setting the clock of a process needs libfaketime: apt-get install faketime")
    with tempfile.TemporaryDirectory(prefix="outcomes-clock-") as folder:
        Path(folder).chmod(0o755)  # Postgres runs as another user
        yield WallClock(library, Path(folder))


@pytest.fixture
async def jumping_url(clock: WallClock) -> AsyncIterator[str]:
    """A database with a batch, on a server that uses the jumping clock."""
    server = PostgresServer(find_programs(), environ=clock.environ)
    server.start("-c timezone=Europe/Berlin")
    try:
        url = await create_database(server, "template0")
        await prepare_schema(url, may_migrate=True)
        await store_batch(url, RECIPIENTS)
        yield url
    finally:
        server.remove()


async def load_while_it_jumps(checker: Checker, service: httpx.AsyncClient, clock: WallClock) -> None:
    """Sends continuously while the clock is set to each moment in turn, and finally to the real time."""
    loading = asyncio.create_task(checker.load([service], 3 * EACH * len(MOMENTS)))
    for moment in MOMENTS.values():
        await checker.wait_for(acknowledged=EACH)
        clock.set(moment)
    await checker.wait_for(acknowledged=EACH)
    clock.set_real()
    await loading
    assert checker.refused == checker.unknown == set()


async def check_all(checker: Checker, service: httpx.AsyncClient, url: str) -> None:
    """Checks that everything acknowledged is stored once, even if it is sent again, and that the service works."""
    for number in sorted(checker.acknowledged)[::20]:
        answer = await checker.send(service, number)
        assert answer is not None
        assert answer.status_code == 204
    await checker.check(url)
    for path in ("/readyz", "/v1/batch-calls/456/outcomes", "/v1/feed?after=0", "/v1/alarms"):
        assert (await service.get(path)).status_code == 200, path
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"]["processed"] == len(checker.acknowledged)
    assert datetime.fromisoformat(outcomes["last_event_at"]) <= datetime.now(UTC)
    verified = await run(OUTCOMES, "verify", OUTCOMES_DATABASE_URL=url)
    assert verified.status == 0, verified.output + verified.errors


async def test_the_clock_of_the_service_jumps(checker: Checker, clock: WallClock, database_url: str) -> None:
    await store_batch(database_url, RECIPIENTS)
    async with serve(OUTCOMES_DATABASE_URL=database_url, **clock.environ) as serving, following_the_feed(database_url):
        await load_while_it_jumps(checker, serving.client, clock)
        await check_all(checker, serving.client, database_url)


async def test_the_clock_of_the_whole_machine_jumps(checker: Checker, clock: WallClock, jumping_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=jumping_url, **clock.environ) as serving, following_the_feed(jumping_url):
        await load_while_it_jumps(checker, serving.client, clock)
        connection = await asyncpg.connect(jumping_url)
        # Bodies of months without a partition are in the default partition.
        assert await connection.fetchval("SELECT count(*) FROM event_bodies_default") > EACH
        await checker.check(jumping_url)
        for moment in MOMENTS.values():  # they move into their own partitions once these exist
            await connection.execute("SELECT create_body_partitions($1, 2)", moment)
        assert await connection.fetchval("SELECT count(*) FROM event_bodies_default") == 0
        await connection.close()
        await check_all(checker, serving.client, jumping_url)


async def test_a_service_that_starts_in_another_year_makes_its_partitions_there_and_loses_nothing(
    checker: Checker, clock: WallClock, jumping_url: str
) -> None:
    for moment in (*MOMENTS.values(), None):
        if moment is None:
            clock.set_real()
        else:
            clock.set(moment)
        async with serve(OUTCOMES_DATABASE_URL=jumping_url, **clock.environ) as serving:
            await checker.load([serving.client], EACH)
            assert checker.refused == checker.unknown == set()
            if moment is None:
                await check_all(checker, serving.client, jumping_url)
    connection = await asyncpg.connect(jumping_url)
    assert await connection.fetchval("SELECT count(*) FROM event_bodies_default") == 0
    await connection.close()
