"""Writes groups to Postgres, and to the stream while Postgres does not take them.

A group that Postgres has not taken within ``SPILL_AFTER_SECONDS``, for a reason of its own, goes to the stream, and so
do the groups after it, at once. Meanwhile a real write transaction each second finds out when Postgres is back. Writing
to both is harmless: the ledger knows each event id, and the stream each message.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import stamina
import structlog

from service.errors import CommitInDoubtError
from service.formant.events import Event, Unreadable
from service.spill.codec import split_group
from service.spill.state import Presence
from service.spill.stream import Stream
from service.store.database import connect, load_queries
from service.telemetry.metrics import Metrics
from service.web.problems import UNREACHABLE

logger = structlog.get_logger()

SPILL_AFTER_SECONDS = 1.5
PROBE_SECONDS = 1.0
AGAIN_SECONDS = 10.0
"""A database that goes away again within this time was not really back."""
MAX_PROBE_SECONDS = 30.0
LOCK_TIMEOUT = "1s"
AWAY = (
    *UNREACHABLE,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    CommitInDoubtError,
)
"""What the database fails with for reasons that are not the group's."""

Group = Sequence[Event | Unreadable]


class SpillWriter:
    """The committer's ``write``. ``write`` commits a group to Postgres, ``probe`` raises while Postgres is away."""

    def __init__(
        self,
        write: Callable[[Group], Awaitable[None]],
        stream: Stream,
        presence: Presence,
        probe: Callable[[], Awaitable[None]],
        metrics: Metrics,
        first_ended: asyncio.Event | None = None,
    ) -> None:
        self._write = write
        self._stream = stream
        self._presence = presence
        self._probe = probe
        self._metrics = metrics
        self._turn = asyncio.Lock()
        """Held while a group goes to the stream, so that the permission to put it there does not end meanwhile."""
        self._probe_seconds, self._back_at = PROBE_SECONDS, float("-inf")
        self._away = asyncio.Event()
        self._first_ended = first_ended
        if first_ended is not None:
            self._away.set()

    def is_away(self) -> bool:
        """Whether groups go to the stream now."""
        return self._away.is_set()

    async def write(self, items: Group) -> None:
        """Commits the items to Postgres or stores them in the stream. Raises when neither takes them; they may be
        written again then."""
        if not self._stream.is_ready:
            await self._write(items)
            return
        if not self._away.is_set():
            try:
                async with asyncio.timeout(SPILL_AFTER_SECONDS):
                    await self._write_when_possible(items)
                return
            except AWAY as error:
                logger.warning("database_away", reason=type(error).__name__, group_events=len(items))
                self._go_away()
        async with self._turn:
            if self._away.is_set():
                await self._spill(items)
                return
        await self._write(items)

    async def run(self) -> None:
        """Probes Postgres while it is away, until it is cancelled."""
        if self._first_ended is not None:
            await self._first_ended.wait()
        while True:
            await self._away.wait()
            await asyncio.sleep(self._probe_seconds)
            try:
                async with asyncio.timeout(2 * PROBE_SECONDS):
                    await self._probe()
            except Exception as error:
                logger.info("database_still_away", reason=type(error).__name__)
                continue
            async with self._turn:
                self._away.clear()
                await self._presence.withdraw()
            self._back_at = time.monotonic()
            logger.info("database_back")

    def _go_away(self) -> None:
        """Begins to spill. Where a probe succeeds and groups fail all the same, as on a full disk, the next probe comes
        later each time: every return costs a group ``SPILL_AFTER_SECONDS``."""
        is_again = time.monotonic() - self._back_at < AGAIN_SECONDS
        self._probe_seconds = min(2 * self._probe_seconds, MAX_PROBE_SECONDS) if is_again else PROBE_SECONDS
        self._away.set()

    async def _write_when_possible(self, items: Group) -> None:
        async for attempt in stamina.retry_context(
            on=AWAY, attempts=None, timeout=None, wait_initial=0.05, wait_max=0.4, wait_jitter=0.05
        ):
            with attempt:
                await self._write(items)

    async def _spill(self, items: Group) -> None:
        await self._presence.permit()
        await spill_group(self._stream, self._metrics, items)


async def spill_group(stream: Stream, metrics: Metrics, items: Group) -> None:
    """Stores a group in the stream. Raises SpillError when it does not take all of it."""
    parts = list(split_group(items, stream.max_message_bytes))
    answers = await asyncio.gather(*map(stream.publish, parts), return_exceptions=True)
    for answer in answers:
        if answer is not None:
            metrics.spill_failures.inc()
            raise answer
    metrics.spilled_groups.inc(len(parts))
    metrics.spilled_events.inc(len(items))


async def probe_database(url: str) -> None:
    """Proves with a connection of its own that Postgres takes writes, and that the ingest lock is free."""
    connection = await connect(url, statement_seconds=2 * PROBE_SECONDS)
    try:
        await load_queries().prove_ingest(connection, timeout=LOCK_TIMEOUT)
        await load_queries().commit_heartbeat(connection)
    finally:
        connection.terminate()
