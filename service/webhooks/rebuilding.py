"""Rebuilding: recomputes outcomes and counters from the facts, in small steps, while webhooks keep coming.

``sql/functions/50_rebuild.sql`` explains why this is correct. Another run completes one that was killed.
"""

import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from service.errors import DatabaseError
from service.store.database import Database
from service.telemetry.context import current_actor
from service.webhooks.verification import Report, list_batches, recount

REBUILD_RECIPIENTS = 1000


class Rebuilt(NamedTuple):
    """The number of outcomes and counters repaired in a batch; ``batch_key`` is None for calls outside batches."""

    batch_key: int | None
    outcomes: int
    counters: int


class Rebuilder:
    """Repairs outcomes and counters. ``report`` receives the number of recipients checked since its last call."""

    def __init__(self, database: Database, report: Report = lambda rows: None) -> None:
        self._database = database
        self._report = report

    async def rebuild(self, batch_id: int | None = None) -> AsyncIterator[Rebuilt]:
        """Rebuilds one batch or all. Raises DatabaseError while another rebuild runs, NotFoundError for no batch."""
        queries, pool = self._database.queries, self._database.pool
        # Read committed holds no snapshot, so this long transaction does not hold back vacuum.
        async with pool.acquire() as session, session.transaction(isolation="read_committed"):
            try:
                await queries.lock_rebuild(session)
            except asyncpg.LockNotAvailableError:
                raise DatabaseError("Another rebuild is running on this database: wait for it") from None
            await queries.stay_idle(session)
            for batch in await list_batches(self._database, batch_id):
                yield await self._rebuild(batch["batch_key"], batch["recipient_count"])
            if batch_id is None:
                yield await self._rebuild_other_calls()

    async def _rebuild_other_calls(self) -> Rebuilt:
        queries, pool = self._database.queries, self._database.pool
        errors = [row async for row in queries.list_other_call_errors(pool)]
        if errors:
            await queries.add_other_calls(
                pool,
                agent_ids=[row["agent_id"] for row in errors],
                kinds=[row["kind"] for row in errors],
                days=[row["day"] for row in errors],
                statuses=[row["status"] for row in errors],
                differences=[row["recounted"] - row["stored"] for row in errors],
            )
        return Rebuilt(None, 0, len(errors))

    async def _rebuild(self, key: int, count: int) -> Rebuilt:
        queries, pool = self._database.queries, self._database.pool
        outcomes = 0
        for after in range(0, count, REBUILD_RECIPIENTS):
            outcomes += await queries.rebuild_outcomes(pool, batch_key=key, after=after, limit=REBUILD_RECIPIENTS)
            self._report(min(REBUILD_RECIPIENTS, count - after))
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            async for _ in recount(self._database, connection, key, count):
                pass
            errors = [row async for row in queries.list_counter_errors(connection, batch_key=key)]
        actor = current_actor()
        await queries.rebuild_counters(
            pool,
            batch_key=key,
            counters=[row["counter"] for row in errors],
            **{name: [row[name] for row in errors] for name in ("a", "b", "c", "recipients", "talked", "talk_seconds")},
            actor=actor.name,
            key_id=actor.key_id,
            outcome="corrected" if outcomes or errors else "unchanged",
            details=json.dumps({"outcomes": outcomes, "counters": len(errors)}),
        )
        return Rebuilt(key, outcomes, len(errors))
