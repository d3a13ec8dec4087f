"""Fetches the details (results, failure reasons) of calls that were healed from their entry in the provider's list.

Which are outstanding is stored with the calls themselves, in ``outstanding_details``, so any replica continues after
another was killed. Completed calls come first, since only they have results.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from service.errors import ProviderError
from service.formant.client import FormantClient
from service.formant.conversations import Conversation, knows_results, to_details
from service.formant.events import Event
from service.reconciliation.healer import has_event
from service.store.database import Database

logger = structlog.get_logger()

SAME_CALL = timedelta(seconds=2)
READ_AGAIN = timedelta(hours=1)
"""A completed call without results is read once more after this time: the agent's results may come late."""
FAILED_AGAIN = timedelta(minutes=10)
MAX_READS = 5
"""A conversation that cannot be read so often is given up."""
PAGE_ROWS = 50


class DetailsReader:
    """Reads the details of a batch's calls. ``write`` ingests an event, and returns False when it is refused."""

    def __init__(
        self, database: Database, write: Callable[[Event], Awaitable[bool]], now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._write = write
        self._now = now

    async def read(
        self, client: FormantClient, batch_key: int, save: Callable[[], Awaitable[None]], *, seconds: float
    ) -> None:
        """Reads what is due, for about so long. ``save`` is called after each call, and
        raises when the lease is lost. Raises ProviderError when the provider cannot be read."""
        ends_at = self._now() + timedelta(seconds=seconds)
        while rows := await self._list(batch_key):
            for row in rows:
                await self._read_one(client, row)
                await save()
                if self._now() >= ends_at:
                    return

    async def _list(self, batch_key: int) -> list[Any]:
        found = self._database.queries.list_outstanding_details(
            self._database.pool, batch_key=batch_key, now=self._now(), limit=PAGE_ROWS
        )
        return [row async for row in found]

    async def _read_one(self, client: FormantClient, row: Any) -> None:
        try:
            conversation = await client.get_conversation(row["conversation_id"])
        except ProviderError as error:
            if error.status == 404:
                await self._finish(row)
                return
            if error.type not in ("provider_paused", "rate_limit_exceeded"):
                await (self._defer(row, FAILED_AGAIN) if row["reads"] < MAX_READS else self._finish(row))
            raise
        if not _is_same_call(row, conversation):  # attempts may share an id: the list's entry is all there is
            await self._finish(row)
            return
        event = to_details(row, conversation, received_at=self._now())
        if event is not None and not await has_event(self._database, event) and not await self._write(event):
            logger.warning("details_refused", agent_id=row["agent_id"])
        if row["is_completed"] and not knows_results(conversation.results) and row["reads"] == 0:
            await self._defer(row, READ_AGAIN)
        else:
            await self._finish(row)

    async def _defer(self, row: Any, wait: timedelta) -> None:
        await self._database.queries.defer_details(
            self._database.pool, arrival_id=row["arrival_id"], due_at=self._now() + wait
        )

    async def _finish(self, row: Any) -> None:
        await self._database.queries.finish_details(self._database.pool, arrival_id=row["arrival_id"])


def _is_same_call(fact: Any, conversation: Conversation) -> bool:
    if conversation.started_at is None or fact["started_at"] is None:
        return conversation.started_at is None and fact["started_at"] is None
    apart: timedelta = conversation.started_at - fact["started_at"]
    return conversation.is_terminal and abs(apart) <= SAME_CALL
