"""The lease on an upload: renewed while its owner works on it, and the fence around sending it.

The lease in the database lasts ``LEASE_SECONDS``. The owner relies on it for ``SENDING_SECONDS`` only, counted from
before the request for it, by clocks that also run while the machine sleeps. The difference is how long the owner may be
paused between its last check of the clocks and the write that follows: before another process settles the upload, both
are over. So the lease lasts more than twice as long as the right to send and its confirmation together.
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
    """The current time by two clocks; neither alone sees every pause of a process or a virtual machine."""

    since_boot: float
    wall: float


def read_clocks() -> Instant:
    """The current time. ``time.monotonic`` is not used: on Linux it stops while the machine is suspended."""
    return Instant(time.clock_gettime(_BOOT_CLOCK), time.time())


class SendLease:
    """The lease on some uploads, the last of which is sent. A ``Fence`` for the client."""

    def __init__(self, database: Database, batch_keys: list[int], clocks: Callable[[], Instant] = read_clocks) -> None:
        self._database = database
        self._batch_keys = batch_keys
        self._clocks = clocks
        self._rows = 0
        self._sent_at: datetime | None = None
        self._asked_at: Instant | None = None

    def report_progress(self, rows: int) -> None:
        """Sets the number of rows checked so far; ``renew`` stores it."""
        self._rows = rows

    async def begin_sending(self) -> asyncpg.Record | None:
        """Commits that sending begins. Returns the upload's agent, name and sending time; None when it was given up.
        The time is None when people in it are suppressed and must be withdrawn first."""
        asked_at = self._clocks()
        upload: asyncpg.Record | None = await self._database.queries.begin_sending(
            self._database.pool, batch_key=self._batch_keys[-1], seconds=LEASE_SECONDS
        )
        if upload is not None and upload["sent_at"] is not None:
            self._sent_at, self._asked_at = upload["sent_at"], asked_at
        return upload

    def holds(self) -> bool:
        """Whether the upload may be sent, by the clocks alone."""
        if self._asked_at is None:
            return False
        passed = (now - asked for now, asked in zip(self._clocks(), self._asked_at, strict=True))
        return all(seconds < SENDING_SECONDS for seconds in passed)

    async def confirm(self) -> None:
        """Renews the lease now, or finds that it was lost. While the database is unreachable, the clocks decide."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self.renew()

    async def renew(self) -> None:
        """Renews the lease. It ends for good when another process has settled the upload."""
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
async def hold_lease(database: Database, batch_keys: list[int]) -> AsyncIterator[SendLease]:
    """Renews the lease on uploads while the block runs, and stores the progress of the check."""
    lease = SendLease(database, batch_keys)
    # A failed renewal is only logged: the lease may run out.
    task = asyncio.create_task(every(RENEW_SECONDS, lease.renew, "lease_renewal_failed", is_due_at_once=False))
    try:
        yield lease
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
