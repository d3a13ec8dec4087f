"""Replay: processes a quarantined body like a new event, once a fix makes it readable."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial

from service.access.audit import record_audit
from service.errors import NotFoundError
from service.formant.events import EventDecoder, Unreadable
from service.formant.targets import Target
from service.store.database import Database
from service.webhooks.verification import read_pages
from service.webhooks.writer import Writer


class Replayer:
    """Replays one quarantined body or all of them. Replaying twice is harmless: the ledger knows the event id."""

    def __init__(
        self, database: Database, targets: Mapping[str, Target], decoder: EventDecoder, writer: Writer
    ) -> None:
        self._database = database
        self._targets = targets
        self._decoder = decoder
        self._writer = writer
        self._turn = asyncio.Lock()

    async def replay(self, quarantine_id: int) -> str | None:
        """The event id once the event is in the ledger; None when the body still cannot be used and stays.

        Raises NotFoundError when no quarantined body has this id.
        """
        queries = self._database.queries
        row = await queries.get_quarantined(self._database.pool, quarantine_id=quarantine_id)
        if row is None:
            raise NotFoundError(f"There is no quarantined body {quarantine_id}: see GET /v1/quarantine")
        target = self._targets.get(row["target"])
        if target is None:  # without its target, its list of allowed agents is unknown
            return None
        item = target.admit(
            self._decoder.decode_event(row["body"], row["target"], row["received_at"], None, row["signature"])
        )
        if isinstance(item, Unreadable):
            return None
        async with self._turn:
            if not await self._writer.write_one(item):
                return None
        async with self._database.pool.acquire() as connection, connection.transaction():
            await queries.mark_replayed(connection, quarantine_id=quarantine_id)
            await record_audit(self._database, connection, "replay", f"quarantined {quarantine_id}", "event")
        return item.event_id

    async def replay_all(self) -> AsyncIterator[tuple[int, str | None]]:
        """Replays everything in quarantine; yields each quarantine id with the result of ``replay``."""
        query = partial(self._database.queries.list_quarantine, self._database.pool)
        async for page in read_pages(query, after="quarantine_id"):
            for row in page:
                yield row["quarantine_id"], await self.replay(row["quarantine_id"])
