"""Discovery: batches made elsewhere, found through the provider's list, and ours kept in step with it.

Most passes read a page or two; once an hour one walks the whole list, since its order is only probably newest first.
Whatever a pass cannot do because the provider fails is tried again in the next one.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence

import structlog

from service.batches.registration import Registrar
from service.errors import NotFoundError, ProviderError, UnavailableError
from service.formant.client import PAGE_ROWS, FormantClient, ProviderBatch
from service.store.database import Database

logger = structlog.get_logger()

WHOLE_LIST_SECONDS = 3600.0
ASKED_AT_MOST = 10  # questions for unknown ids in any ASK_SECONDS, whoever asks
ASK_SECONDS = 10.0
MAX_TOTAL = 2**31 - 1


class Discoverer:
    """Keeps our batches as the provider tells them. Several replicas take turns by a lease."""

    def __init__(
        self, database: Database, client: FormantClient | None, registrar: Registrar, *, interval_seconds: float
    ) -> None:
        self._database = database
        self._client = client
        self._registrar = registrar
        self._interval_seconds = interval_seconds
        self._holder = secrets.token_hex(8)
        self._walked_at: float | None = None
        self._asked_at: deque[float] = deque(maxlen=ASKED_AT_MOST)

    async def run(self) -> None:
        """Discovers until it is cancelled."""
        while True:
            try:
                # Longer than a round, so that it stays with the same replica while that one lives.
                if await self._database.queries.claim_lease(
                    self._database.pool, name="discovery", holder=self._holder, seconds=self._interval_seconds * 3
                ):
                    await self.discover()
            except ProviderError as error:
                logger.warning("discovery_failed", status=error.status)
            except Exception:
                logger.warning("discovery_failed", exc_info=True)
            await asyncio.sleep(self._interval_seconds)

    async def discover(self) -> None:
        """One pass: reads the list, and places events again that new batches concern.

        Raises ProviderError when the provider does not answer.
        """
        if self._client is None:
            return
        now = time.monotonic()
        is_whole = self._walked_at is None or now - self._walked_at >= WHOLE_LIST_SECONDS
        await self._read_list(self._client, is_whole=is_whole)
        if is_whole:
            self._walked_at = now
        await self._registrar.finish_all()

    async def ask_for(self, batch_id: int) -> bool:
        """Asks the provider for a batch that we do not know, and takes it down; whether we know it now.

        Only so many questions are asked in a while, so unknown ids cannot use up the provider's allowance: beyond them
        raises UnavailableError. Raises ProviderError when the provider fails.
        """
        if self._client is None:
            return False
        now = time.monotonic()
        if len(self._asked_at) == ASKED_AT_MOST and now - self._asked_at[0] < ASK_SECONDS:
            raise UnavailableError(
                f"Batch {batch_id} is not known here (yet), and the provider was just asked for many: ask again later",
                retry_after=round(ASK_SECONDS),
            )
        self._asked_at.append(now)
        try:
            batch = await self._client.get_batch(batch_id)
        except ProviderError as error:
            if error.status == 404:
                return False
            raise
        await self._note([batch])
        await self._registrar.finish_all()
        return await self._database.queries.get_registration(self._database.pool, batch_id=batch_id) is not None

    async def require(self, batch_id: int) -> None:
        """Makes sure that a batch is known; raises NotFoundError when the provider does not know it either."""
        if await self._database.queries.get_registration(self._database.pool, batch_id=batch_id) is not None:
            return
        if not await self.ask_for(batch_id):
            raise NotFoundError(f"There is no batch {batch_id}")

    async def _read_list(self, client: FormantClient, *, is_whole: bool) -> None:
        page: list[ProviderBatch] = []
        async for batch in client.list_batches():
            page.append(batch)
            if len(page) == PAGE_ROWS:
                # Taken down before the next page is asked for, and after this one's answer came (see note_batches).
                if await self._note(page) == 0 and not is_whole:
                    return
                page = []
        await self._note(page)

    async def _note(self, batches: Sequence[ProviderBatch]) -> int:
        changed: int = await self._database.queries.note_batches(
            self._database.pool,
            batch_id=[batch.id for batch in batches],
            agent_id=[batch.agent_id for batch in batches],
            name=[batch.name.replace("\x00", "") for batch in batches],
            status=[batch.status.replace("\x00", "") for batch in batches],
            total_recipients=[min(max(batch.total_recipients, 0), MAX_TOTAL) for batch in batches],
            created_at=[batch.created_at for batch in batches],
        )
        if changed:
            logger.info("batches_noted", count=changed)
        return changed
