"""A primary with a synchronous standby: acknowledged events are on both and survive when the standby takes over."""

import asyncio
import operator
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

import asyncpg
import pytest

from service.app import prepare_schema
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.factories import store_batch
from tests.guarantees.checker import Checker
from tests.postgres import PostgresServer, require_standby

RECIPIENTS = 5000
BEFORE = 300
PATIENT = BacklogLimits(hold_seconds=60.0)
WAITING_FOR_STANDBY = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Cluster(NamedTuple):
    """Two servers, and the name of the database that both have."""

    primary: PostgresServer
    standby: PostgresServer
    name: str

    @property
    def url(self) -> str:
        """An address that names both hosts."""
        return f"postgresql://postgres@/{self.name}?host={self.primary.folder},{self.standby.folder}"


@pytest.fixture
async def cluster(own_postgres: PostgresServer) -> AsyncIterator[Cluster]:
    """A primary that confirms a commit only after its standby has it."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    standby = await asyncio.to_thread(own_postgres.make_standby)
    await asyncio.to_thread(standby.start)
    await require_standby(url)
    yield Cluster(own_postgres, standby, url.partition("?")[0].rpartition("/")[2])
    await asyncio.to_thread(standby.remove)


async def test_the_standby_takes_over_under_load_and_the_service_continues_without_a_restart(
    checker: Checker, start_service: StartService, cluster: Cluster
) -> None:
    async with start_service(PATIENT, OUTCOMES_DATABASE_URL=cluster.url) as service:
        loading = asyncio.create_task(checker.load([service], 3 * BEFORE))
        await checker.wait_for(acknowledged=BEFORE)
        cluster.primary.kill()
        await asyncio.to_thread(cluster.standby.promote)
        await loading
        await checker.send_again(service)
        assert (await service.get("/readyz")).status_code == 200
    await checker.check(cluster.standby.url(cluster.name))
    assert len(checker.acknowledged) == 3 * BEFORE


@pytest.mark.parametrize("ending", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_commit_whose_wait_for_the_standby_was_cut_short_is_not_acknowledged(
    checker: Checker, start_service: StartService, cluster: Cluster, ending: str
) -> None:
    executioner = await asyncpg.connect(cluster.primary.url(cluster.name))
    async with start_service(PATIENT, OUTCOMES_DATABASE_URL=cluster.url) as service:
        await checker.load([service], 10)
        await asyncio.to_thread(cluster.standby.stop)
        sending = asyncio.create_task(checker.send(service, 11))
        for _ in range(3):  # each time it is committed only on this machine
            pid = await eventually(lambda: executioner.fetchval(WAITING_FOR_STANDBY))
            assert not sending.done()
            await executioner.execute(f"SELECT {ending}({pid})")
            await eventually(lambda: executioner.fetchval(WAITING_FOR_STANDBY), partial(operator.ne, pid))
        assert not sending.done()
        # The provider may resend it meanwhile; that this machine already has it is no reason to acknowledge it.
        again = asyncio.create_task(checker.send(service, 11))
        await asyncio.to_thread(cluster.standby.start)
        assert await sending is not None
        assert await again is not None
        assert checker.acknowledged == set(range(1, 12))
        cluster.primary.kill()
        await asyncio.to_thread(cluster.standby.promote)
    await executioner.close()
    url = cluster.standby.url(cluster.name)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM events WHERE event_id = 'sent-11'") == 1
    await connection.close()
    await checker.check(url)
