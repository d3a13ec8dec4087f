"""Drains the stream: commits its groups to Postgres and acknowledges each after its COMMIT.

One replica drains at a time, by a lease; a second one at the same moment would be harmless, since the ledger knows each
event id. Draining yields to live webhooks: while another session holds or waits for the ingest lock, the drainer pauses
for five times as long as its group took, so live webhooks keep two thirds of their rate and more.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from service.background import every
from service.formant.events import EventDecoder
from service.formant.targets import Target
from service.spill.codec import decode_message
from service.spill.state import note_state
from service.spill.stream import Fetched, Stream
from service.spill.writer import AWAY
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer

logger = structlog.get_logger()

LEASE = "spill_drain"
LEASE_SECONDS = 10.0
TICK_SECONDS = 2.0
NOTE_SECONDS = 2.0
FETCH_SECONDS = 0.5
FETCH_MESSAGES = 16
"""In memory at once; each has at most the servers' ``max_payload``."""
GROUP_EVENTS = 500
GROUP_BYTES = 8 * 2**20
"""Of messages; one may be larger by itself."""
YIELD = 5.0
"""How many times as long as its group took the drainer pauses."""
PUT_BACK_SECONDS = 30.0


class Drainer:
    """Commits what waits in the stream. ``decoder`` and ``targets`` are the receiver's; ``is_away`` is whether Postgres
    is known to take nothing."""

    def __init__(
        self,
        database: Database,
        stream: Stream,
        targets: Mapping[str, Target],
        decoder: EventDecoder,
        writer: Writer,
        metrics: Metrics,
        is_away: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._is_away = is_away
        self._database = database
        self._stream = stream
        self._targets = targets
        self._decoder = decoder
        self._writer = writer
        self._metrics = metrics
        self._holder = secrets.token_hex(8)
        self._holds = False
        self._claimed_at = float("-inf")

    async def run(self) -> None:
        """Drains whenever something waits, until it is cancelled."""
        await every(TICK_SECONDS, self.drain, "spill_drain_failed")

    async def drain(self) -> None:
        """Commits everything that waits now, if this replica has the lease, and records what is left."""
        if self._is_away() or not self._stream.is_ready or not await self._claim():
            return
        try:
            while await note_state(self._database, self._stream, self._metrics):
                if not await self._drain_for(NOTE_SECONDS):
                    return
        except BaseException:
            self._holds = False  # what was fetched is delivered again
            raise

    async def _drain_for(self, seconds: float) -> bool:
        """Commits for so long; False when nothing can be fetched now, or another replica has the lease."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            fetched = await self._stream.fetch(FETCH_MESSAGES, FETCH_SECONDS)
            group: list[Fetched] = []
            events = size = 0
            for message in fetched:
                events += message.events
                size += len(message.payload)
                if group and (events > GROUP_EVENTS or size > GROUP_BYTES):
                    await self._commit(group)
                    group, events, size = [], message.events, len(message.payload)
                group.append(message)
            if group:
                await self._commit(group)
            if not fetched or not await self._claim():
                return bool(fetched) and self._holds
        return True

    async def _commit(self, group: list[Fetched]) -> None:
        """Commits some messages and acknowledges them. One that fails for a reason of its own stays there and is
        tried again later."""
        began = time.perf_counter()
        try:
            items = [item for each in group for item in decode_message(each.payload, self._targets, self._decoder)]
            await self._writer.write(items)
        except AWAY:
            raise
        except Exception:
            if len(group) > 1:
                for each in group:
                    await self._commit([each])
                return
            logger.error("spilled_group_not_committed", exc_info=True)
            await group[0].put_back(PUT_BACK_SECONDS)
            return
        await asyncio.gather(*(each.acknowledge() for each in group))
        self._metrics.drained_events.inc(len(items))
        took = time.perf_counter() - began
        if await self._database.queries.is_ingest_busy(self._database.pool):
            await self._sleep(YIELD * took)

    async def _claim(self) -> bool:
        """Whether this replica drains. A new holder takes over what the last one had fetched."""
        if self._holds and time.monotonic() - self._claimed_at < LEASE_SECONDS / 3:
            return True
        held = await self._database.queries.claim_lease(
            self._database.pool, name=LEASE, holder=self._holder, seconds=LEASE_SECONDS
        )
        self._claimed_at = time.monotonic()
        if held and not self._holds:
            await self._stream.begin_fetching()
        elif not held and self._holds:
            self._metrics.spill_waiting_events.set(0)
            self._metrics.spill_oldest_seconds.set(0)
            await self._stream.end_fetching()
        self._holds = bool(held)
        return self._holds
