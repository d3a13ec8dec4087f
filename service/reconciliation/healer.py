"""Healing: finds calls whose webhooks were lost among the agent's conversations and ingests them.

A walk reads the agent's conversations page by page, back to before the start of the batch. The list has no filter by
batch, its order is not documented, and new calls shift its pages while it is read. So pages overlap, a walk ends early
only where the times prove that the list runs backwards, and walks repeat until one finds nothing new.

A page has the status, times and duration of a hundred calls, and so all that the figures need: a walk ingests what the
list says, and ``details`` fetches results and failure reasons afterwards.

A conversation names no batch. ``ingest`` decides where it belongs, as for a webhook without a reference. The walk asks
beforehand and ingests a call only in two cases: facts of the same call exist already, or exactly one recipient of all
the agent's batches and open windows has the phone and was due when the call began. Any other call of one of the batch's
recipients is skipped and counted by the reason: it fits several, an event of it already waits, or nobody was due. The
calls of a page are taken oldest first, so that a call is not placed before one that ends its recipient. Ingesting is
idempotent, so a walk may stop anywhere.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import msgspec
import structlog

from service.formant.batches import ProviderMetrics
from service.formant.client import FormantClient
from service.formant.conversations import Conversation, ConversationPage, to_event
from service.formant.events import ANYWHERE, Event
from service.formant.listing import OVERLAP_ROWS, PAGE_ROWS, ListWalk
from service.formant.regions import Regions
from service.outcomes.healing import Missing
from service.reconciliation.choosing import agrees, choose, find_contradicted, is_known
from service.reconciliation.drift import FINALS
from service.reconciliation.window import ORDER_SLACK, find_offset, read_span
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer

logger = structlog.get_logger()

PROOF_PAGES = 3
"""This many consecutive pages before the batch, each older than the previous one, end a walk."""
CLOCK_SKEW = timedelta(minutes=5)


class Progress(Missing, msgspec.Struct, omit_defaults=True):
    """How far a walk has come; stored with the batch's lease, so that another worker can continue."""

    offset: int = 0
    healed: int = 0
    ambiguous: int = 0
    waiting: int = 0
    """Calls of which an event waits to be attributed."""
    not_due: int = 0
    """Calls with the batch's people for which nobody was due."""
    unknown: int = 0
    refused: int = 0
    is_whole: bool = True
    """False when the walk began in the middle: newer calls may come before that position."""
    found: int = 0
    unknown_there: list[int] = []
    """Up to 20 recipients with a known call that the walk did not meet."""
    walked_at: datetime | None = None
    ending: str = ""
    """Why the list could not be read to its end; empty when it was."""
    began_at: datetime | None = None
    """When healing began; it is under way until ``walked_at``."""
    healed_before: int = 0
    """Calls that earlier healings of the batch have added."""
    calls: int = 0
    """Calls to the provider since healing began, by all its walks and workers."""
    seconds: float = 0.0
    """How long these took."""
    pages_left: int = 0
    """Pages that the walk has still to read, as far as can be estimated."""
    expected_at: datetime | None = None
    """When the figures are expected to be there; None while that cannot be estimated."""

    def note_missing(self, theirs: ProviderMetrics, ours: ProviderMetrics) -> None:
        """Brings the recipients that are missing here up to date."""
        finals = {name: count for name in FINALS if (count := getattr(theirs, name)) is not None}
        known = self.compare(finals, ours)
        self.missing, self.total, self.finals = known.missing, known.total, known.finals

    def count_healed(self) -> int:
        """Calls that all healings of the batch have added."""
        return self.healed_before + self.healed

    @property
    def is_under_way(self) -> bool:
        """Whether healing has begun and not ended, even if its worker was killed."""
        return self.began_at is not None and self.walked_at is None


Save: TypeAlias = Callable[[Progress], Awaitable[None]]
_Key: TypeAlias = tuple[str, datetime | None, str | None]
_LAST = datetime.max.replace(tzinfo=UTC)


class HealedBatch(NamedTuple):
    """The batch to heal."""

    batch_key: int
    agent_id: int
    began_at: datetime
    may_retry: bool
    """The provider's figures say that recipients wait for a retry."""
    ended_at: datetime | None = None
    """When the provider was first seen to have finished it; None while it has not."""


class Healer:
    """Walks the conversations and ingests what is missing."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        metrics: Metrics,
        now: Callable[[], datetime],
        regions: Regions = ANYWHERE,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._writer = writer
        self._now = now
        self._regions = regions
        self._turn = asyncio.Lock()

    async def walk(
        self,
        client: FormantClient,
        batch: HealedBatch,
        progress: Progress,
        save: Save,
        met: set[str],
        *,
        searches: bool = False,
    ) -> Progress:
        """Walks the conversations once, starting at ``progress``, and adds the id of each to ``met``. With ``searches``
        a walk from the front begins where the batch's time does, if the list's order can be proven. ``save`` stores the
        progress, renews the lease and raises when the lease is lost. Raises ProviderError when the provider cannot be
        read; calls healed before that stay healed."""

        async def fetch(offset: int) -> ConversationPage:
            return await client.list_conversations(batch.agent_id, PAGE_ROWS, offset)

        since = batch.began_at - CLOCK_SKEW
        pages: list[list[Conversation]] = []
        seen: set[_Key] = set()  # pages overlap
        walk = ListWalk(fetch, progress.offset)
        if searches and batch.ended_at is not None and not progress.offset:
            walk = await _open_walk(fetch, batch.ended_at + CLOCK_SKEW)
            progress.is_whole = walk.offset == 0
        progress.ending = ""
        extent = Extent(since)
        while (page := await walk.read()) is not None:
            pages = [*pages, page.data][-PROOF_PAGES:]
            met.update(record.conversation_id for record in page.data)
            wanted = [
                record
                for record in page.data
                if record.agent_id in {None, batch.agent_id}
                and (record.started_at or since) >= since
                and _key(record) not in seen
            ]
            seen.update(map(_key, wanted))
            for group in self._group(batch, wanted):
                await self._heal_group(batch, group, progress)
            if walk.ending is not None or _is_past(pages, since):
                break
            progress.offset = walk.offset
            progress.pages_left = extent.count_pages_left(page, walk.offset)
            await save(progress)
        if walk.ending is not None and walk.ending != "end":
            progress.ending = walk.ending
            self._metrics.list_flaws.labels("conversations", walk.ending).inc()
            logger.warning("conversation_walk_truncated", agent_id=batch.agent_id, reason=walk.ending)
        return progress

    def _group(self, batch: HealedBatch, records: list[Conversation]) -> list[list[Conversation]]:
        """The calls of a page in groups, oldest first. Calls with one phone are in different groups: whether a later
        one fits depends on the earlier."""
        groups: list[list[Conversation]] = []
        taken: Counter[str | None] = Counter()
        for record in sorted(records, key=lambda record: record.started_at or record.ended_at or _LAST):
            phone = record.read_phone(self._regions.find(batch.agent_id))
            if taken[phone] == len(groups):
                groups.append([])
            groups[taken[phone]].append(record)
            taken[phone] += phone is not None
        return groups

    async def _heal_group(self, batch: HealedBatch, records: list[Conversation], progress: Progress) -> None:
        found = self._database.queries.find_called_recipients(
            self._database.pool,
            agent_id=batch.agent_id,
            phone=[record.read_phone(self._regions.find(batch.agent_id)) for record in records],
            conversation_id=[record.conversation_id for record in records],
            started_at=[record.started_at for record in records],
            called_at=[record.started_at or record.ended_at for record in records],
            until=[record.ended_at or record.started_at for record in records],
            is_completed=[record.status == "completed" for record in records],
        )
        candidates: dict[int, list[Any]] = {}
        async for row in found:
            candidates.setdefault(row["n"] - 1, []).append(row)
        for index, rows in candidates.items():
            if all(row["batch_key"] != batch.batch_key for row in rows):
                continue
            record = records[index]
            chosen, reason = choose(rows)
            if chosen is None:
                setattr(progress, reason, getattr(progress, reason) + 1)
            elif not record.is_terminal:
                progress.unknown += record.ended_at is not None
            elif chosen["batch_key"] == batch.batch_key and not is_known(chosen, record, batch.may_retry):
                await self._heal(batch, record, chosen, progress)

    async def _heal(self, batch: HealedBatch, record: Conversation, chosen: Any, progress: Progress) -> None:
        """Ingests a call, with what is known of its details; ``ingest`` attributes it."""
        event = to_event(
            record._replace(
                agent_id=batch.agent_id,
                results=chosen["known_results"] or record.results,
                failure_reason=record.failure_reason or (chosen["known_reason"] if agrees(chosen, record) else None),
            ),
            received_at=self._now(),
            may_retry=batch.may_retry,
            region=self._regions.find(batch.agent_id),
            contradicted=find_contradicted(chosen, record),
        )
        if event is None or await has_event(self._database, event):
            return
        if not await self.write(event):
            progress.found += 1
            progress.refused += 1
            logger.warning("healing_refused", agent_id=batch.agent_id)
        elif await has_event(self._database, event):
            progress.found += 1
            progress.healed += 1
            self._metrics.healed.inc()
        else:  # other events have changed where it fits since it was chosen
            progress.waiting += 1

    async def write(self, event: Event) -> bool:
        """Ingests an event of the provider's own records; False when the database refuses its data."""
        async with self._turn:
            return await self._writer.write_one(event)


async def has_event(database: Database, event: Event) -> bool:
    """Whether the event is known and attributed."""
    known: bool = await database.queries.has_event(
        database.pool, event_id=event.event_id, occurred_at=event.occurred_at
    )
    return known


async def _open_walk(
    fetch: Callable[[int], Awaitable[ConversationPage]], until: datetime
) -> ListWalk[ConversationPage]:
    """A walk that begins before the calls that began by ``until``, or at the front of the list."""
    offset = await find_offset(fetch, until)
    if offset:
        # It begins with a page that is newer as a whole, unless entries have vanished since.
        span = read_span(await fetch(offset), offset)
        if span is None or span.newest <= until:
            offset = 0
    return ListWalk(fetch, offset)


class Extent:
    """Estimates how much of the list is left: by its length, and by how fast its pages approach the batch's start."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._pages = 0
        self._newest: datetime | None = None

    def count_pages_left(self, page: ConversationPage, offset: int) -> int:
        """The pages left after this one; the next begins at ``offset``."""
        self._pages += 1
        times = [record.started_at for record in page.data if record.started_at is not None]
        self._newest = self._newest or max(times, default=None)
        estimates = [] if page.total is None else [-(-max(0, page.total - offset) // (PAGE_ROWS - OVERLAP_ROWS))]
        if self._newest is not None and times and min(times) < self._newest:
            share = max(min(times) - self._since, timedelta(0)) / (self._newest - min(times))
            estimates.append(round(self._pages * share) + PROOF_PAGES)
        return min(estimates, default=0)


def _key(record: Conversation) -> _Key:
    """Identifies a call in the list: attempts may share an id."""
    return record.conversation_id, record.started_at, record.status


def _is_past(pages: list[list[Conversation]], since: datetime) -> bool:
    """Whether the last pages prove that the list runs backwards and is past the start of the batch."""
    newest = [
        max((record.started_at for record in page if record.started_at is not None), default=None) for page in pages
    ]
    times = [time for time in newest if time is not None and time < since - ORDER_SLACK]
    return len(times) == PROOF_PAGES and times[0] > times[1] > times[2]
