"""The lease on an upload: renewed while somebody works on it, so that its age tells what a killed service left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from service.store.database import Database

logger = structlog.get_logger()

LEASE_SECONDS = 60.0
RENEW_SECONDS = 2.0


class Progress:
    """How many rows of a file have been checked; whoever checks it moves it on."""

    def __init__(self) -> None:
        self.rows = 0

    def move(self, rows: int) -> None:
        """Says that so many rows have been checked in all."""
        self.rows = rows


@asynccontextmanager
async def hold_lease(database: Database, batch_keys: list[int]) -> AsyncIterator[Progress]:
    """Renews the lease on uploads for as long as the block lasts, and takes down how far the check is."""
    progress = Progress()
    task = asyncio.create_task(_renew(database, batch_keys, progress))
    try:
        yield progress
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _renew(database: Database, batch_keys: list[int], progress: Progress) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            await database.queries.renew_upload_lease(
                database.pool, batch_keys=batch_keys, rows_checked=progress.rows, seconds=LEASE_SECONDS
            )
        except Exception:  # a database that is away for longer than the lease is what the lease is for
            logger.warning("lease_not_renewed", exc_info=True)
