"""The lease on an upload: renewed while its owner works on it, and the fence around sending it.

The lease in the database lasts ``LEASE_SECONDS``. The owner itself relies on it for ``SENDING_SECONDS`` only, counted
from before it asked for it, by clocks that go on while the machine sleeps. The difference is how long the owner may be
paused between its last look at the clock and the write that follows: when another settles the upload, both are past. So
the lease is twice as long as the right to send and its confirmation.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import asyncpg
import structlog

from service.background import every
from service.store.database import Database

logger = structlog.get_logger()

LEASE_SECONDS = 60.0
RENEW_SECONDS = 2.0
SENDING_SECONDS = 20.0
CONFIRM_SECONDS = 5.0
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS: its monotonic clock counts sleep


class Instant(NamedTuple):
    """This moment by two clocks: neither alone sees every pause of a process or of a virtual machine."""

    since_boot: float
    wall: float


def read_clocks() -> Instant:
    """This moment. On Linux ``time.monotonic`` stands still while the machine is suspended, so it is not asked."""
    return Instant(time.clock_gettime(_BOOT_CLOCK), time.time())


class Lease:
    """The lease on some uploads, the last of which is the one to be sent. A ``Fence`` for the client."""

    def __init__(self, database: Database, batch_keys: list[int], clocks: Callable[[], Instant] = read_clocks) -> None:
        self._database = database
        self._batch_keys = batch_keys
        self._clocks = clocks
        self._rows = 0
        self._sent_at: datetime | None = None
        self._asked_at: Instant | None = None

    def move(self, rows: int) -> None:
        """Says that so many rows of the file have been checked in all."""
        self._rows = rows

    async def begin_sending(self) -> asyncpg.Record | None:
        """Commits that sending begins: the upload's agent, name and time of sending; None when it was given up."""
        asked_at = self._clocks()
        upload: asyncpg.Record | None = await self._database.queries.begin_sending(
            self._database.pool, batch_key=self._batch_keys[-1], seconds=LEASE_SECONDS
        )
        if upload is not None:
            self._sent_at, self._asked_at = upload["sent_at"], asked_at
        return upload

    def holds(self) -> bool:
        """Whether the upload may be sent, by the clocks alone."""
        if self._asked_at is None:
            return False
        passed = (now - asked for now, asked in zip(self._clocks(), self._asked_at, strict=True))
        return all(seconds < SENDING_SECONDS for seconds in passed)

    async def confirm(self) -> None:
        """Renews the lease now, or learns that it was lost; a database that is away leaves it to the clocks."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self.renew()

    async def renew(self) -> None:
        """Renews the lease; where the upload was settled by another, it has ended for good."""
        asked_at = self._clocks()
        renewed = self._database.queries.renew_upload_lease(
            self._database.pool,
            batch_keys=self._batch_keys,
            rows_checked=self._rows,
            seconds=LEASE_SECONDS,
            sent_at=self._sent_at,
        )
        keys = {row["batch_key"] async for row in renewed}
        if self._asked_at is not None:
            self._asked_at = asked_at if self._batch_keys[-1] in keys else None


@asynccontextmanager
async def hold_lease(database: Database, batch_keys: list[int]) -> AsyncIterator[Lease]:
    """Renews the lease on uploads for as long as the block lasts, and records how far the check is."""
    lease = Lease(database, batch_keys)
    # A database that is away for longer than the lease is what the lease is for.
    renewing = every(RENEW_SECONDS, lease.renew, "lease_renewal_failed", is_due_at_once=False)
    task = asyncio.create_task(renewing)
    try:
        yield lease
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
