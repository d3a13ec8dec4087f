"""The ingest lock, held by a test as a writer that is stuck would hold it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

WAITING = """
SELECT count(*) FROM pg_locks
WHERE relation = 'ingest_lock'::regclass AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""How many wait for the ingest lock."""


@asynccontextmanager
async def hold_ingest_lock(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Nothing is ingested until the block ends."""
    async with connection.transaction():
        await connection.execute("SELECT lock_ingest()")
        yield
