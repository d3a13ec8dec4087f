"""When groups go to Postgres, and when to the stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.errors import CommitInDoubtError
from service.spill.state import Presence
from service.spill.stream import Stream
from service.spill.writer import Group, SpillWriter
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.factories import decode, make_payload
from tests.nats import run_nats


class Postgres:
    """A database that fails with ``error``, if it is set; ``probed`` counts the probes."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.probe_error: Exception | None = None
        self.written = 0
        self.probed = asyncio.Semaphore(0)

    async def write(self, items: Group) -> None:
        if self.error is not None:
            raise self.error
        self.written += len(items)

    async def probe(self) -> None:
        self.probed.release()
        if self.probe_error is not None:
            raise self.probe_error


@asynccontextmanager
async def open_writer(database: Database, postgres: Postgres) -> AsyncIterator[tuple[SpillWriter, Stream]]:
    """A writer to that database and a real stream."""
    async with run_nats() as cluster:
        stream = Stream([cluster.url], max_body_bytes=2**20)
        await stream.open()
        presence = Presence(database.url, is_spilling=False)
        writer = SpillWriter(postgres.write, stream, presence, postgres.probe, Metrics())
        probing = asyncio.create_task(writer.run())
        try:
            yield writer, stream
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            await presence.end()
            await stream.close()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.spill.writer.SPILL_AFTER_SECONDS", 0.2)
    monkeypatch.setattr("service.spill.writer.PROBE_SECONDS", 0.05)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("away"),
        asyncpg.ConnectionDoesNotExistError("away"),
        TimeoutError("away"),
        asyncpg.ReadOnlySQLTransactionError("away"),
        asyncpg.TargetServerAttributeNotMatched("away"),
        asyncpg.DiskFullError("away"),
        asyncpg.CannotConnectNowError("away"),
        CommitInDoubtError("away"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_group_goes_to_the_stream_for_each_reason_of_the_database(database: Database, error: Exception) -> None:
    postgres = Postgres()
    postgres.error = postgres.probe_error = error
    events = decode(make_payload(), make_payload())
    async with open_writer(database, postgres) as (writer, stream):
        await writer.write(events)
        assert (postgres.written, (await stream.read_state()).events) == (0, 2)
        await writer.write(events)  # the same message
        assert (await stream.read_state()).events == 2
        postgres.error = postgres.probe_error = None
        while writer.is_away():
            await postgres.probed.acquire()
        await writer.write(events)
        assert (postgres.written, (await stream.read_state()).events) == (2, 2)


async def test_any_other_failure_is_the_callers(database: Database) -> None:
    postgres = Postgres()
    postgres.error = asyncpg.UndefinedFunctionError("a bug")
    async with open_writer(database, postgres) as (writer, stream):
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await writer.write(decode(make_payload()))
        assert (await stream.read_state()).events == 0


async def test_without_a_stream_the_database_decides(database: Database) -> None:
    postgres = Postgres()
    async with open_writer(database, postgres) as (writer, stream):
        await stream.close()
        postgres.error = ConnectionRefusedError("away")
        with pytest.raises(ConnectionRefusedError):
            await writer.write(decode(make_payload()))
        postgres.error = None
        await writer.write(decode(make_payload()))
        assert postgres.written == 1
