"""Rebuilding: outcomes and counters made anew from the facts, in small steps, while webhooks keep coming.

Why that is right stands in ``sql/functions/50_mend.sql``. Killed at any line, it leaves what another run completes.
"""

import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from service.errors import DatabaseError
from service.store.database import Database
from service.telemetry.context import current_actor
from service.webhooks.verification import Tell, list_batches, recount

MEND_RECIPIENTS = 1000


class Rebuilt(NamedTuple):
    """What was wrong in a batch, and is mended."""

    batch_key: int
    outcomes: int
    counters: int


class Rebuilder:
    """Mends. ``tell`` is given recipients looked at since it was last called."""

    def __init__(self, database: Database, tell: Tell = lambda rows: None) -> None:
        self._database = database
        self._tell = tell

    async def rebuild(self, batch_id: int | None = None) -> AsyncIterator[Rebuilt]:
        """Rebuilds one batch, or all; raises DatabaseError when another rebuild runs, NotFoundError for no batch."""
        queries, pool = self._database.queries, self._database.pool
        # Without a snapshot, so that this transaction does not hold vacuum back for as long as it is open.
        async with pool.acquire() as session, session.transaction(isolation="read_committed"):
            try:
                await queries.lock_rebuild(session)
            except asyncpg.LockNotAvailableError:
                raise DatabaseError("Another rebuild runs on this database: wait for it") from None
            await queries.stay_idle(session)
            for batch in await list_batches(self._database, batch_id):
                yield await self._rebuild(batch["batch_key"], batch["recipient_count"])

    async def _rebuild(self, key: int, count: int) -> Rebuilt:
        queries, pool = self._database.queries, self._database.pool
        outcomes = 0
        for after in range(0, count, MEND_RECIPIENTS):
            outcomes += await queries.mend_outcomes(pool, batch_key=key, after=after, limit=MEND_RECIPIENTS)
            self._tell(min(MEND_RECIPIENTS, count - after))
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            async for _ in recount(self._database, connection, key, count):
                pass
            errors = [row async for row in queries.list_counter_errors(connection, batch_key=key)]
        actor = current_actor()
        await queries.mend_counters(
            pool,
            batch_key=key,
            counters=[row["counter"] for row in errors],
            **{name: [row[name] for row in errors] for name in ("a", "b", "c", "recipients", "talked", "talk_seconds")},
            actor=actor.name,
            key_id=actor.key_id,
            outcome="mended" if outcomes or errors else "right",
            details=json.dumps({"outcomes": outcomes, "counters": len(errors)}),
        )
        return Rebuilt(key, outcomes, len(errors))
