"""Holds the ingest lock as a stuck writer would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

WAITING = """
SELECT count(*) FROM pg_locks
WHERE relation = 'ingest_lock'::regclass AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""The number of sessions that wait for the ingest lock."""


@asynccontextmanager
async def hold_ingest_lock(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Holds the lock, so that nothing is ingested until the block ends."""
    async with connection.transaction():
        await connection.execute("SELECT lock_ingest()")
        yield
