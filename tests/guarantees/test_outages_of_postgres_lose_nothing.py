"""Postgres away under load, with a spill: webhooks go on being acknowledged, and none is lost or counted twice."""

import asyncio
import signal

import psutil
import pytest

from service.app import prepare_schema
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import store_batch
from tests.guarantees.checker import Checker
from tests.nats import run_nats
from tests.postgres import PostgresServer

RECIPIENTS = 5000
BEFORE = 300


@pytest.fixture
async def own_url(own_postgres: PostgresServer) -> str:
    """A database with a batch on the test's own server."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    return url


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_webhooks_are_acknowledged_while_postgres_is_away(
    checker: Checker, start_service: StartService, own_postgres: PostgresServer, own_url: str, how: str
) -> None:
    async with (
        run_nats() as cluster,
        start_service(OUTCOMES_DATABASE_URL=own_url, OUTCOMES_SPILL_URL=cluster.url) as service,
    ):
        loading = asyncio.create_task(checker.load([service], 4 * BEFORE))
        await checker.wait_for(acknowledged=BEFORE)
        if how == "stopped":
            await asyncio.to_thread(own_postgres.stop, "immediate")
        else:
            send_to_postgres(own_postgres, signal.SIGSTOP)
        await loading
        assert checker.refused == checker.unknown == set()
        assert await read_metric(service, "outcomes_spilled_events_total") > 0
        if how == "stopped":
            await asyncio.to_thread(own_postgres.start)
        else:
            send_to_postgres(own_postgres, signal.SIGCONT)
        await eventually(cluster.count_messages, lambda count: count == 0)
        assert await read_metric(service, "outcomes_drained_events_total") > 0
    await checker.check(own_url)
    assert len(checker.acknowledged) == 4 * BEFORE


def send_to_postgres(server: PostgresServer, number: int) -> None:
    """Sends a signal to all processes of a server."""
    postmaster = psutil.Process(server.pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.send_signal(number)
