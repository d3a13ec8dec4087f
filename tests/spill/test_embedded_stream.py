"""``outcomes serve --spill embedded``: a stream beside the service, on one machine."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from service.app import prepare_schema
from tests.conftest import create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook, store_batch
from tests.guarantees.checker import Checker
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, Serving, run, start


@pytest.fixture
async def own_url(own_postgres: PostgresServer) -> str:
    """A database with a batch on the test's own server."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, 200)
    return url


@asynccontextmanager
async def serve_with_stream(url: str, folder: Path) -> AsyncIterator[Serving]:
    """A service with an embedded stream."""
    process = await start(
        OUTCOMES, "serve", "--spill", "embedded", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        settings={"OUTCOMES_DATABASE_URL": url, "OUTCOMES_DATA_DIR": str(folder)},
    )  # fmt: skip
    serving = Serving(process)
    try:
        await serving.wait_until_serving()
        yield serving
    finally:
        await serving.end(15)


async def test_what_waits_outlives_a_killed_service_and_its_server(
    own_postgres: PostgresServer, own_url: str, tmp_path: Path
) -> None:
    checker = Checker()
    async with serve_with_stream(own_url, tmp_path) as killed:
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await checker.load([killed.client], 50)
        assert len(checker.acknowledged) == 50
        killed.process.kill()
    async with serve_with_stream(own_url, tmp_path) as again:
        assert (await again.client.get("/readyz")).json() == {"status": "degraded"}
        await asyncio.to_thread(own_postgres.start)
        await eventually(
            lambda: read_metric(again.client, "outcomes_drained_events_total"), lambda drained: drained >= 50
        )
    await checker.check(own_url)


def find_server(serving: Serving) -> psutil.Process:
    """The embedded server's process."""
    (found,) = [child for child in psutil.Process(serving.process.pid).children() if child.name() == "nats-server"]
    return found


async def test_a_server_that_dies_is_started_again(own_postgres: PostgresServer, own_url: str, tmp_path: Path) -> None:
    async with serve_with_stream(own_url, tmp_path) as serving:
        find_server(serving).kill()
        await eventually(lambda: [line for line in serving.log if line["event"] == "embedded_stream_died"])
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await eventually(
            lambda: post_webhook(serving.client, make_payload()), lambda answer: answer.status_code == 204, seconds=60
        )
        assert await read_metric(serving.client, "outcomes_spilled_events_total") > 0


async def test_the_server_ends_with_a_killed_service_and_not_by_the_signals_of_its_terminal(
    database_url: str, tmp_path: Path
) -> None:
    async with serve_with_stream(database_url, tmp_path) as serving:
        server = find_server(serving)
        assert os.getpgid(server.pid) != os.getpgid(serving.process.pid)
        serving.process.kill()
        await asyncio.to_thread(server.wait, 10)


async def test_two_services_do_not_share_a_folder(database_url: str, tmp_path: Path) -> None:
    async with serve_with_stream(database_url, tmp_path):
        settings = {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_DATA_DIR": str(tmp_path)}
        refused = await run(OUTCOMES, "serve", "--spill", "embedded", **settings)
        assert refused.status == 2
        assert "another service runs an embedded stream" in refused.errors
