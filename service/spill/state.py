"""What Postgres knows of the spill, for readers: what waited in the stream at the last look, and which replicas may
have put events there since. ``find_spilled()`` (sql/functions/10_find_spilled.sql) is the rule.

A look is worth something for half a minute. A replica's row covers that time: the replica renews it while it puts
nothing into the stream; before it does, it says so or, where Postgres does not answer, lets the row run out.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import asyncpg
import structlog

from service.background import every
from service.spill.stream import Stream
from service.store.database import Database, connect, load_queries
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

ALIVE_SECONDS = 2.0
RENEW_SECONDS = 0.7
ANSWER_SECONDS = 0.5


class Presence:
    """This replica's row, written on a connection of its own: a pool does not give up one that has fallen silent.
    ``is_reachable`` is whether the stream can be used now."""

    def __init__(self, url: str, *, is_spilling: bool, is_reachable: Callable[[], bool] = lambda: True) -> None:
        self._url = url
        self._is_reachable = is_reachable
        self._connection: asyncpg.Connection | None = None
        self._replica = secrets.token_hex(8)
        self._turn = asyncio.Lock()
        self._is_spilling = self._has_spilled = self._is_permitted = is_spilling
        self._runs_out_at = time.monotonic()
        self._database_time: tuple[datetime, float] | None = None
        """What the database's clock said, and when by our own. What follows from it is never ahead of that clock."""

    async def run(self) -> None:
        """Renews the row until it is cancelled."""
        await every(RENEW_SECONDS, self.renew, "spill_replica_not_renewed")

    async def renew(self) -> bool:
        """Writes the row. Returns False when Postgres does not answer, or too late: then the row runs out."""
        async with self._turn:
            is_spilling = self._is_spilling
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._write(is_spilling=is_spilling)
            except Exception as error:
                logger.debug("spill_replica_not_renewed", reason=type(error).__name__)
                self._disconnect()
                return False
            finally:
                if not is_spilling:  # it may have been written without an answer
                    self._runs_out_at = time.monotonic() + ALIVE_SECONDS
            self._has_spilled = is_spilling
            return True

    async def permit(self) -> None:
        """Returns once this replica may put events into the stream: Postgres knows it, or the row has run out."""
        if self._is_permitted:
            return
        self._is_spilling = self._has_spilled = True
        if not await self.renew():
            await asyncio.sleep(max(0.0, self._runs_out_at - time.monotonic()))
        self._is_permitted = True

    async def withdraw(self) -> None:
        """Ends the permission: from now on this replica puts nothing into the stream. What it has put there is known
        once somebody has looked at the stream."""
        self._is_spilling = self._is_permitted = False
        await self.renew()

    async def end(self) -> None:
        """Removes the row of a replica that ends, unless something of it may wait unseen."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if not self._has_spilled:
                    await load_queries().forget_spill_replica(await self._connect(), replica=self._replica)
        except Exception as error:
            logger.info("spill_replica_not_removed", reason=type(error).__name__)
        finally:
            self._disconnect()

    async def _write(self, *, is_spilling: bool) -> None:
        """Writes the row for a time that begins now, so that a statement that runs late changes nothing."""
        connection = await self._connect()
        if self._database_time is None:
            self._database_time = (await load_queries().get_database_time(connection), time.monotonic())
        database_time, read_at = self._database_time
        time_left = timedelta(seconds=ALIVE_SECONDS + time.monotonic() - read_at)
        written_at: datetime | None = await load_queries().renew_spill_replica(
            connection,
            replica=self._replica,
            valid_until=database_time + time_left,
            is_spilling=is_spilling,
            has_spilled=self._has_spilled,
            is_reachable=self._is_reachable(),
        )
        if written_at is None:
            raise TimeoutError("The database's clock has moved, or it ran this too late")
        self._database_time = written_at, time.monotonic()

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url)
            self._database_time = None  # it may be another server
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def note_state(database: Database, stream: Stream, metrics: Metrics) -> int:
    """Looks at the stream and records what waits there; returns the number of messages."""
    checked_at = await database.queries.get_database_time(database.pool)
    state = await stream.read_state()
    await database.queries.note_spill_state(
        database.pool,
        stream=state.identity,
        waiting_events=state.events,
        oldest_at=state.oldest_at,
        checked_at=checked_at,
    )
    metrics.spill_waiting_events.set(state.events)
    metrics.spill_oldest_seconds.set((checked_at - state.oldest_at).total_seconds() if state.oldest_at else 0)
    return state.messages
