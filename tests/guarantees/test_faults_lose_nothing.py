"""Faults under load: whatever is killed, stopped, cut off or silent, nothing acknowledged is lost or counted twice."""

import asyncio
import contextlib
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from service.app import prepare_schema
from service.store.database import open_database
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import store_batch
from tests.guarantees.checker import CLIENTS, Checker, following_the_feed
from tests.guarantees.silent_network import open_network
from tests.locks import hold_ingest_lock
from tests.postgres import PostgresServer
from tests.processes import serve

RECIPIENTS = 5000
BEFORE = 300
TERMINATED = 5
LIMITS = BacklogLimits(hold_seconds=1.0)
PROVIDER_PATIENCE_SECONDS = 10.0
IN_A_COMMIT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%ingest(%'
"""


@pytest.fixture
async def batch_url(database_url: str) -> str:
    """A database with a batch."""
    await store_batch(database_url, RECIPIENTS)
    return database_url


@pytest.fixture
async def own_url(own_postgres: PostgresServer) -> str:
    """A database with a batch on the test's own server."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    return url


@pytest.mark.parametrize("killed", [1, 3])
async def test_killing_one_of_three_replicas_or_all(checker: Checker, batch_url: str, killed: int) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(serve(OUTCOMES_DATABASE_URL=batch_url)) for _ in range(3)]
        await stack.enter_async_context(following_the_feed(batch_url))
        loading = asyncio.create_task(checker.load([replica.client for replica in replicas], 4 * BEFORE))
        await checker.wait_for(acknowledged=BEFORE)
        for replica in replicas[:killed]:
            replica.process.kill()
        await loading
        assert checker.unknown
        again = await stack.enter_async_context(serve(OUTCOMES_DATABASE_URL=batch_url))
        await checker.send_again(again.client)
    await checker.check(batch_url)
    assert len(checker.acknowledged) == 4 * BEFORE


async def test_a_signal_drains_what_was_accepted_and_ends_with_0(checker: Checker, batch_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=batch_url) as going, serve(OUTCOMES_DATABASE_URL=batch_url) as staying:
        loading = asyncio.create_task(checker.load([going.client, staying.client], 4 * BEFORE))
        await checker.wait_for(acknowledged=BEFORE)
        going.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(going.process.wait(), 30) == 0
        await loading
        await checker.send_again(staying.client)  # events refused during the shutdown
        assert checker.refused == set()
    await checker.check(batch_url)


@pytest.mark.parametrize("how", ["kill", "immediate stop"])
async def test_ending_postgres_without_warning(
    checker: Checker, start_service: StartService, own_postgres: PostgresServer, own_url: str, how: str
) -> None:
    async with start_service(OUTCOMES_DATABASE_URL=own_url) as service, following_the_feed(own_url):
        loading = asyncio.create_task(checker.load([service], 3 * BEFORE))
        await checker.wait_for(acknowledged=BEFORE)
        if how == "kill":
            own_postgres.kill()
        else:
            await asyncio.to_thread(own_postgres.stop, "immediate")
        await asyncio.to_thread(own_postgres.start)
        await loading
        assert checker.refused == checker.unknown == set()  # it was back before the hold time of an event ended
        assert (await service.get("/readyz")).status_code == 200
        await checker.check(own_url)


async def test_terminating_backends_during_their_commits(
    checker: Checker, start_service: StartService, batch_url: str
) -> None:
    terminator = await asyncpg.connect(batch_url)
    terminated = 0
    async with start_service() as service, following_the_feed(batch_url):
        loading = asyncio.create_task(checker.load([service], 3 * BEFORE))
        while not loading.done():
            if terminated < TERMINATED:
                terminated += await terminator.fetchval(IN_A_COMMIT)
            await asyncio.sleep(0.01)
        await loading
        assert checker.refused == checker.unknown == set()
    await terminator.close()
    assert terminated >= TERMINATED
    await checker.check(batch_url)


async def test_a_network_that_goes_silent(
    checker: Checker, start_service: StartService, batch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.open_database", partial(open_database, statement_seconds=1.0))
    async with (
        open_network(batch_url) as (network, address),
        start_service(LIMITS, OUTCOMES_DATABASE_URL=address) as service,
    ):
        await checker.load([service], BEFORE)
        network.silence()
        loading = asyncio.create_task(checker.load([service], 50))
        reading = asyncio.create_task(service.get("/v1/batch-calls"))
        began = time.monotonic()
        refused = await checker.send(service, RECIPIENTS)
        assert time.monotonic() - began < PROVIDER_PATIENCE_SECONDS
        assert refused is not None
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        assert (await service.get("/readyz")).status_code == 503
        assert (await reading).status_code == 503
        network.restore()
        await loading
        await checker.send_again(service)
        assert (await service.get("/v1/batch-calls")).status_code == 200
    await checker.check(batch_url)


async def test_half_open_connections_block_no_other(
    checker: Checker, start_service: StartService, batch_url: str
) -> None:
    async with start_service() as service:
        opened = []
        for head in (b"", b"POST /webhooks/formant HTTP/1.1\r\nHost: x\r\n", b"POST /webhooks/formant HTTP/1.1\r\n"
                     b"Host: x\r\nContent-Length: 1000\r\n\r\n{"):  # fmt: skip
            for _ in range(100):
                _, writer = await asyncio.open_connection(service.base_url.host, service.base_url.port)
                writer.write(head)
                opened.append(writer)
        await checker.load([service], BEFORE)
        assert len(checker.acknowledged) == BEFORE
        for writer in opened:
            writer.transport.abort()
    await checker.check(batch_url)


async def test_clients_that_hang_up_while_their_events_are_in_a_group(
    checker: Checker, start_service: StartService, batch_url: str
) -> None:
    holder = await asyncpg.connect(batch_url)
    async with start_service() as service, following_the_feed(batch_url):
        async with hold_ingest_lock(holder):
            loading = asyncio.create_task(checker.load([service], BEFORE))
            await eventually(lambda: read_metric(service, "outcomes_backlog_events"), lambda held: held >= CLIENTS)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        await checker.load([service], BEFORE)
        assert len(checker.unknown) == CLIENTS
        await checker.check(batch_url)
        assert checker.stored > checker.acknowledged  # events of clients that hung up were stored anyway
    await holder.close()


async def test_events_are_refused_while_the_disk_is_full_and_accepted_once_there_is_space(
    checker: Checker, start_service: StartService, own_url: str, small_disk: Path
) -> None:
    connection = await asyncpg.connect(own_url)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    await connection.execute("ALTER TABLE facts SET TABLESPACE small")
    async with start_service(LIMITS, OUTCOMES_DATABASE_URL=own_url) as service:
        await checker.load([service], 10)
        filler = small_disk.parent / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        await checker.load([service], 100)
        assert len(checker.refused) > 50
        answer = await checker.send(service, 200)
        assert answer is not None
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        filler.unlink()
        await checker.send_again(service)
        assert await connection.fetchval("SELECT count(*) FROM quarantine") == 0  # the disk is at fault, not the events
    await connection.close()
    await checker.check(own_url)
