"""Discovery: finds batches made elsewhere in the provider's list, and updates ours from it.

Most passes read a page or two. Once an hour one reads the whole list, because its order is only probably newest first.
What fails because of the provider is tried again in the next pass.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Sequence

import msgspec
import structlog

from service.background import every
from service.errors import NotFoundError, ProviderError, UnavailableError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.formant.listing import Ending
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.registration import Registrar

logger = structlog.get_logger()

WHOLE_LIST_SECONDS = 3600.0
LEASE_SECONDS = 30.0
MAX_REQUESTS = 10  # for unknown ids, within any REQUEST_SECONDS, over all callers
REQUEST_SECONDS = 10.0
MAX_SHOWN = 20


class Discoverer:
    """Keeps our batches as the provider lists them. One replica at a time does this, under a lease."""

    def __init__(
        self,
        database: Database,
        client: FormantClient | None,
        registrar: Registrar,
        metrics: Metrics,
        *,
        interval_seconds: float,
    ) -> None:
        self._database = database
        self._client = client
        self._registrar = registrar
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._lease_seconds = min(LEASE_SECONDS, 3 * interval_seconds)
        self._holder = secrets.token_hex(8)
        self._is_holder = False
        self._walked_at: float | None = None
        self._ending: Ending = "end"
        """How the last walk over the whole list ended."""
        self._odd_pages = 0
        """Pages that every pass reads, to see whether the odd entries of the last pass are still odd."""
        self._flaws = Counter[str]()
        self._requested_at: deque[float] = deque(maxlen=MAX_REQUESTS)

    async def run(self) -> None:
        await asyncio.gather(
            every(self._interval_seconds, self._discover_in_turn, "discovery_failed"),
            every(self._lease_seconds / 3, self._keep_lease, "lease_renewal_failed"),
        )

    async def _claim(self) -> bool:
        held = await self._database.queries.claim_lease(
            self._database.pool, name="discovery", holder=self._holder, seconds=self._lease_seconds
        )
        self._is_holder = bool(held)
        return self._is_holder

    async def _keep_lease(self) -> None:
        """Renews the lease between passes, so that it stays with one replica while that one lives."""
        if self._is_holder:
            await self._claim()

    async def _discover_in_turn(self) -> None:
        if await self._claim():
            try:
                await self.discover()
            except ProviderError as error:
                logger.warning("discovery_failed", status=error.status)

    async def discover(self) -> None:
        """One pass over the list; then places events again that may belong to new batches. Raises ProviderError."""
        if self._client is None:
            return
        now = time.monotonic()
        is_whole = self._walked_at is None or now - self._walked_at >= WHOLE_LIST_SECONDS
        await self._read_list(self._client, is_whole=is_whole)
        if is_whole:
            self._walked_at = now
        await self._registrar.finish_all()

    async def _fetch(self, batch_id: int) -> bool:
        """Requests an unknown batch from the provider and records it. Returns whether it is known now.

        Raises UnavailableError beyond ``MAX_REQUESTS``, so that unknown ids cannot use up the rate limit, and
        ProviderError when the provider fails.
        """
        if self._client is None:
            return False
        now = time.monotonic()
        if len(self._requested_at) == MAX_REQUESTS and now - self._requested_at[0] < REQUEST_SECONDS:
            raise UnavailableError(
                f"Batch {batch_id} is not known here (yet), and many others were just requested: try again later",
                retry_after=round(REQUEST_SECONDS),
            )
        self._requested_at.append(now)
        try:
            batch = await self._client.get_batch(batch_id)
        except ProviderError as error:
            if error.status == 404:
                return False
            raise
        await self._note([batch])
        await self._registrar.finish_all()
        return await self._is_known(batch_id)

    async def _is_known(self, batch_id: int) -> bool:
        return await self._database.queries.get_registration(self._database.pool, batch_id=batch_id) is not None

    async def require(self, batch_id: int) -> None:
        """Raises NotFoundError when neither this service nor the provider knows the batch; see also ``_fetch``."""
        if not await self._is_known(batch_id) and not await self._fetch(batch_id):
            upload_id = await self._database.queries.find_withholder(self._database.pool, batch_id=batch_id)
            if upload_id is not None:
                raise NotFoundError(
                    f"Batch {batch_id} may be upload {upload_id}, whose outcome is unknown, so it is not shown: "
                    f"settle that one first (POST /v1/uploads/{upload_id}/resolve)"
                )
            raise NotFoundError(f"There is no batch {batch_id}")

    async def _read_list(self, client: FormantClient, *, is_whole: bool) -> None:
        """Records each page before it requests the next one (see note_batches)."""
        walk = client.walk_batches()
        flaws, orphans = Counter[str](), list[int]()
        pages = odd_pages = 0
        while (page := await walk.read()) is not None:
            pages += 1
            changed = await self._note(page.data)
            without_agent = await self._find_orphans(page.data)
            if page.odd or without_agent:
                odd_pages = pages
            flaws.update([*[entry.reason for entry in page.odd.values()], *["no_agent" for _ in without_agent]])
            orphans += without_agent
            if not (changed or is_whole or pages < self._odd_pages):
                break
        if is_whole:
            self._ending = walk.ending or "end"
        if self._ending != "end":
            flaws[self._ending] += 1
        self._odd_pages = odd_pages + 1 if odd_pages else 0
        await self._record_flaws(flaws, orphans)

    async def _find_orphans(self, batches: Sequence[ProviderBatch]) -> list[int]:
        """The ids of unknown batches without an agent. They are skipped, because they belong to no known agent."""
        without = [batch.id for batch in batches if batch.agent_id is None]
        if not without:
            return []
        rows = self._database.queries.select_known_batches(self._database.pool, batch_ids=without)
        known = {row["batch_id"] async for row in rows}
        return [batch_id for batch_id in without if batch_id not in known]

    async def _record_flaws(self, flaws: Counter[str], orphans: list[int]) -> None:
        """Replaces the flaws of the last pass by those of this one, for alarms and the doctor."""
        for reason, count in flaws.items():
            self._metrics.list_flaws.labels("batches", reason).inc(count)
        if flaws != self._flaws:
            logger.warning("provider_list_flawed", count=flaws.total(), reason=", ".join(sorted(flaws)) or "none")
        self._flaws = flaws
        await self._database.queries.record_list_reading(
            self._database.pool,
            name="batches",
            odd_entries=flaws.total(),
            reasons=msgspec.json.encode(flaws).decode(),
            batch_ids=orphans[:MAX_SHOWN],
        )

    async def _note(self, batches: Sequence[ProviderBatch]) -> int:
        changed: int = await self._database.queries.note_batches(
            self._database.pool,
            batch_id=[batch.id for batch in batches],
            agent_id=[batch.agent_id for batch in batches],
            name=[batch.name for batch in batches],
            status=[batch.status for batch in batches],
            total_recipients=[batch.total_recipients for batch in batches],
            created_at=[batch.created_at for batch in batches],
        )
        if changed:
            logger.info("batches_discovered", count=changed)
        return changed
