"""A committer whose writes end as a test decides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from service.formant.events import Unreadable
from service.telemetry.metrics import Metrics
from service.webhooks.committer import Committer, Item
from tests.factories import RECEIVED


class Write:
    """One call of ``write``: what was to be written, and ``outcome``, by which the test ends it."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.names = [item.event_id for item in items]
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Database:
    """Stands where the writer stands; each write waits for the test to decide what comes of it.

    A stubborn one does not let itself be cancelled, as a connection that must be cancelled over the network may not.
    """

    def __init__(self, *, hold_seconds: float = 60.0, is_stubborn: bool = False) -> None:
        self._is_stubborn = is_stubborn
        self.metrics = Metrics()
        self.seconds = 0.0  # what the committer's clock shows; the loop's own goes on
        self.committer = Committer(self._write, self.metrics, hold_seconds=hold_seconds, clock=lambda: self.seconds)
        self.writes: asyncio.Queue[Write] = asyncio.Queue()

    async def _write(self, items: Sequence[Item]) -> None:
        write = Write(items)
        self.writes.put_nowait(write)
        try:
            await asyncio.shield(write.outcome)
        except asyncio.CancelledError:
            if self._is_stubborn:
                await write.outcome
            write.outcome.cancel()
            raise

    def submit(self, name: str, body: bytes = b"{}") -> asyncio.Future[None]:
        return self.committer.submit(Unreadable(name, b"", "default", body, RECEIVED, "not_json", "body"))

    async def next_write(self) -> Write:
        return await asyncio.wait_for(self.writes.get(), 10)

    def count(self, metric: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric)


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[None]:
    """Runs the committer for as long as the block lasts, and drains it then; whatever hangs is cut off."""
    async with asyncio.timeout(20):
        task = asyncio.create_task(database.committer.run())
        yield
        database.committer.drain()
        await task


async def let_others_run() -> None:
    """Turns of the loop, without any time passing for a timer to fire."""
    for _ in range(20):
        await asyncio.sleep(0)
