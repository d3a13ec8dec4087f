"""2xx only after COMMIT: kill -9 of the service, or of Postgres, under load loses no acknowledged event."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.app import prepare_schema
from service.store.database import connect
from tests.conftest import API_KEY, SECRET, StartService, create_database
from tests.factories import make_payload, post_webhook, store_batch
from tests.guarantees.recount import find_differences
from tests.postgres import PostgresServer

RECIPIENTS = 5000
CLIENTS = 32
BEFORE_THE_KILL = 400


class Sender:
    """Sends events from many clients at once; knows which were acknowledged, and which never got an answer."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self.enough = asyncio.Event()
        self._next = 0

    async def run(self, client: httpx.AsyncClient, count: int) -> None:
        await asyncio.gather(*(self._send(client, count) for _ in range(CLIENTS)))

    async def _send(self, client: httpx.AsyncClient, count: int) -> None:
        while self._next < count:
            self._next += 1
            event_id = f"sent-{self._next}"
            payload = make_payload(recipient=self._next, event_id=event_id)
            try:
                answer = await post_webhook(client, payload)
            except httpx.HTTPError:
                self.unknown.add(event_id)
                continue
            (self.acknowledged if answer.status_code == 204 else self.refused).add(event_id)
            if len(self.acknowledged) >= BEFORE_THE_KILL:
                self.enough.set()


async def check_ledger(url: str, sender: Sender) -> None:
    """Every acknowledged event is there once and counted once; those without an answer at most once; no others."""
    connection = await connect(url)
    stored = [row["event_id"] for row in await connection.fetch("SELECT event_id FROM events")]
    outcomes = await connection.fetchval("SELECT count(*) FROM outcomes")
    bodies = await connection.fetchval("SELECT count(*) FROM event_bodies")
    differences = await find_differences(connection)
    await connection.close()
    assert sender.acknowledged <= set(stored)
    assert set(stored) <= sender.acknowledged | sender.unknown | sender.refused
    assert len(stored) == len(set(stored)) == outcomes == bodies
    assert differences == []


@asynccontextmanager
async def run_process(url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The service as a process of its own; gives it and its address."""
    environ = {
        **os.environ, "OUTCOMES_DATABASE_URL": url, "OUTCOMES_PORT": "0", "OUTCOMES_API_KEY": API_KEY,
        "FORMANT_WEBHOOK_SECRET": SECRET,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "serve", env=environ, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async for line in process.stderr:
            record = json.loads(line)
            if record["event"] == "serving":
                yield process, f"http://127.0.0.1:{record['port']}"
                break
        else:
            pytest.fail("the service did not start")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_killing_the_service_under_load_loses_nothing_acknowledged(database_url: str) -> None:
    await store_batch(database_url, RECIPIENTS)
    sender = Sender()
    async with run_process(database_url) as (process, address), httpx.AsyncClient(base_url=address) as client:
        sending = asyncio.create_task(sender.run(client, RECIPIENTS))
        await sender.enough.wait()
        process.send_signal(signal.SIGKILL)
        await sending
    assert sender.unknown
    await check_ledger(database_url, sender)

    async with run_process(database_url) as (process, address), httpx.AsyncClient(base_url=address) as client:
        for event_id in sorted(sender.unknown)[:100]:
            recipient = int(event_id.removeprefix("sent-"))
            answer = await post_webhook(client, make_payload(recipient=recipient, event_id=event_id))
            assert answer.status_code == 204
    await check_ledger(database_url, sender)


async def test_killing_postgres_under_load_loses_nothing_acknowledged_and_the_service_goes_on(
    start_service: StartService, own_postgres: PostgresServer
) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    sender = Sender()
    async with start_service(OUTCOMES_DATABASE_URL=url) as client:
        sending = asyncio.create_task(sender.run(client, 2 * BEFORE_THE_KILL))
        await sender.enough.wait()
        own_postgres.kill()
        await asyncio.to_thread(own_postgres.start)
        await sending
        assert sender.refused == set()  # it was back within the time that an event is held
        assert len(sender.acknowledged) == 2 * BEFORE_THE_KILL
        assert (await client.get("/readyz")).status_code == 200
    await check_ledger(url, sender)
