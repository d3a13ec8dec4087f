"""Postgres away under load, with a spill: webhooks go on being acknowledged, and none is lost or counted twice."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import psutil
import pytest

from service.app import prepare_schema
from tests.conftest import create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import store_batch
from tests.guarantees.checker import Checker
from tests.nats import NatsCluster, run_nats
from tests.postgres import PostgresServer
from tests.processes import Serving, serve

RECIPIENTS = 500
BEFORE = 60
BLOCKED = "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted"


@pytest.fixture
async def own_url(own_postgres: PostgresServer) -> AsyncIterator[str]:
    """A database with a batch on the test's own server, which may be frozen at the end."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    yield url
    send_to_postgres(own_postgres, signal.SIGCONT)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_webhooks_are_acknowledged_while_postgres_is_away(
    checker: Checker, own_postgres: PostgresServer, own_url: str, how: str
) -> None:
    async with serve_with_spill(own_url) as (cluster, replica):
        loading = await begin_loading(checker, replica)
        await take_away(own_postgres, how)
        await loading
        assert await read_metric(replica.client, "outcomes_spilled_events_total") > 0
        await bring_back(own_postgres, how)
        await cluster.wait_until_drained()
        assert await read_metric(replica.client, "outcomes_drained_events_total") > 0
        assert checker.refused == checker.unknown == set()
    await checker.check(own_url)
    assert len(checker.acknowledged) == 4 * BEFORE


async def test_killing_the_service_while_postgres_is_away(
    checker: Checker, own_postgres: PostgresServer, own_url: str
) -> None:
    async with run_nats(3) as cluster:
        settings = {"OUTCOMES_DATABASE_URL": own_url, "OUTCOMES_SPILL_URL": cluster.url}
        async with serve(**settings) as killed, serve(**settings) as staying:
            loading = await begin_loading(checker, killed, staying)
            await take_away(own_postgres, "frozen")
            await wait_until_spilling(killed)
            killed.process.kill()
            await loading
            assert checker.unknown
            await bring_back(own_postgres, "frozen")
            await cluster.wait_until_drained()
            await checker.send_again(staying.client)
    await checker.check(own_url)


async def test_killing_the_leader_of_the_stream_while_postgres_is_away(
    checker: Checker, own_postgres: PostgresServer, own_url: str
) -> None:
    async with serve_with_spill(own_url, servers=3) as (cluster, replica):
        loading = await begin_loading(checker, replica)
        await take_away(own_postgres, "frozen")
        await wait_until_spilling(replica)
        leader = await cluster.find_leader()
        leader.kill()
        await loading
        await bring_back(own_postgres, "frozen")
        await cluster.wait_until_drained()
        await checker.send_again(replica.client)
    await checker.check(own_url)


async def test_nothing_is_acknowledged_while_two_of_three_servers_are_gone(
    checker: Checker, own_postgres: PostgresServer, own_url: str
) -> None:
    async with serve_with_spill(own_url, servers=3) as (cluster, replica):
        await checker.load([replica.client], BEFORE)
        await take_away(own_postgres, "frozen")
        await checker.load([replica.client], BEFORE)
        assert len(checker.acknowledged) == 2 * BEFORE
        for server in cluster.servers[:2]:
            server.kill()
        await checker.load([replica.client], 20)
        assert len(checker.refused) == 20
        for server in cluster.servers[:2]:
            server.start()
        await bring_back(own_postgres, "frozen")
        await cluster.wait_until_drained()
        await checker.send_again(replica.client)
    await checker.check(own_url)


async def test_killing_the_drainer_between_commit_and_acknowledgement(
    checker: Checker, own_postgres: PostgresServer, own_url: str
) -> None:
    holder, watcher = await asyncpg.connect(own_url), await asyncpg.connect(own_url)
    async with run_nats(3) as cluster:
        settings = {"OUTCOMES_DATABASE_URL": own_url, "OUTCOMES_SPILL_URL": cluster.url}
        async with serve(**settings) as replica:
            async with holder.transaction():
                await holder.execute("LOCK TABLE events IN EXCLUSIVE MODE")
                await take_away(own_postgres, "frozen")
                await checker.load([replica.client], BEFORE)
                await bring_back(own_postgres, "frozen")
                await eventually(lambda: watcher.fetchval(BLOCKED))
                cluster.signal(signal.SIGSTOP)  # what is fetched by now cannot be acknowledged
            await eventually(lambda: watcher.fetchval("SELECT count(*) FROM events"))
            replica.process.kill()
            cluster.signal(signal.SIGCONT)
        assert await cluster.count_messages() > 0
        async with serve(**settings):
            await cluster.wait_until_drained()
    await holder.close()
    await watcher.close()
    await checker.check(own_url)
    assert len(checker.acknowledged) == BEFORE


async def test_a_service_that_starts_without_postgres_takes_webhooks_and_becomes_whole(
    checker: Checker, own_postgres: PostgresServer, own_url: str
) -> None:
    await take_away(own_postgres, "stopped")
    async with serve_with_spill(own_url) as (cluster, replica):
        await checker.load([replica.client], BEFORE)
        assert len(checker.acknowledged) == BEFORE
        ready = await replica.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "degraded"})
        refused = await replica.client.get("/v1/batch-calls")
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        loading = asyncio.create_task(checker.load([replica.client], 4 * BEFORE))
        await bring_back(own_postgres, "stopped")
        await eventually(lambda: read_metric(replica.client, "outcomes_drained_events_total"))
        await loading
        await cluster.wait_until_drained()
        assert (await replica.client.get("/v1/batch-calls")).status_code == 200
        assert checker.refused == checker.unknown == set()
    await checker.check(own_url)


@asynccontextmanager
async def serve_with_spill(url: str, servers: int = 1) -> AsyncIterator[tuple[NatsCluster, Serving]]:
    """A replica, and the servers of its stream."""
    async with (
        run_nats(servers) as cluster,
        serve(OUTCOMES_DATABASE_URL=url, OUTCOMES_SPILL_URL=cluster.url) as replica,
    ):
        yield cluster, replica


async def begin_loading(checker: Checker, *replicas: Serving) -> asyncio.Task[None]:
    """Starts to send webhooks; returns once some are acknowledged and most are still to come."""
    loading = asyncio.create_task(checker.load([replica.client for replica in replicas], 4 * BEFORE))
    await checker.wait_for(acknowledged=BEFORE)
    return loading


async def take_away(server: PostgresServer, how: str) -> None:
    """Stops Postgres without warning, or freezes its processes: it accepts connections then, and never answers."""
    if how == "stopped":
        await asyncio.to_thread(server.stop, "immediate")
    else:
        send_to_postgres(server, signal.SIGSTOP)


async def bring_back(server: PostgresServer, how: str) -> None:
    """Undoes ``take_away``."""
    if how == "stopped":
        await asyncio.to_thread(server.start)
    else:
        send_to_postgres(server, signal.SIGCONT)


def send_to_postgres(server: PostgresServer, number: int) -> None:
    """Sends a signal to all processes of a server."""
    postmaster = psutil.Process(server.pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.send_signal(number)


async def wait_until_spilling(replica: Serving) -> None:
    """Waits until the replica has put events into the stream."""
    await eventually(lambda: read_metric(replica.client, "outcomes_spilled_events_total"), lambda count: count > 0)
