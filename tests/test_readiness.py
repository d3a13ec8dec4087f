"""How soon readiness answers while Postgres is silent."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from service.app import prepare_schema
from tests.conftest import create_database
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook
from tests.nats import run_nats
from tests.postgres import PostgresServer
from tests.processes import Serving, serve

SOON_SECONDS = 2.0


@pytest.fixture
async def own_url(own_postgres: PostgresServer) -> str:
    """A database on the test's own server."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    return url


@contextmanager
def freeze(server: PostgresServer) -> Iterator[None]:
    """Its processes stand still while the block lasts: connections stay open, and nothing answers."""
    postmaster = psutil.Process(server.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


async def ask(replica: Serving) -> tuple[int, bool]:
    """The status of readiness, and whether it came soon."""
    began = time.monotonic()
    status = (await replica.client.get("/readyz")).status_code
    return status, time.monotonic() - began < SOON_SECONDS


async def test_a_frozen_postgres_is_noticed_soon_each_time(own_postgres: PostgresServer, own_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=own_url) as replica:
        assert await ask(replica) == (200, True)
        with freeze(own_postgres):
            await eventually(lambda: ask(replica), lambda answer: answer[0] == 503 or not answer[1])
            while len([line for line in replica.log if line["event"] == "not_ready"]) < 3:
                assert await ask(replica) == (503, True)


async def test_with_a_spill_a_frozen_postgres_is_degraded_soon_each_time(
    own_postgres: PostgresServer, own_url: str
) -> None:
    async with run_nats() as cluster, serve(OUTCOMES_DATABASE_URL=own_url, OUTCOMES_SPILL_URL=cluster.url) as replica:
        assert await ask(replica) == (200, True)
        with freeze(own_postgres):
            assert await ask(replica) == (200, True)
            assert (await post_webhook(replica.client, make_payload())).status_code == 204
            began = time.monotonic()
            assert (await replica.client.get("/readyz")).json() == {"status": "degraded"}
            assert time.monotonic() - began < 0.5  # Postgres is not asked
