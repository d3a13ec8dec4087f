"""Healing: calls whose webhooks were lost are found among the agent's conversations and ingested from there.

A walk reads the agent's conversations page by page, from the first to those before the batch began. The list has no
filter by batch, its order is not documented, and new calls shift its pages while it is read; so pages overlap, a walk
ends early only where the times prove that it goes backwards, and walks are repeated until one finds nothing new.

A conversation names no batch. Where it belongs is decided by ``ingest``, as for a webhook without a reference; a walk
asks beforehand, so as to fetch only what it needs: facts of the same call are there already, or exactly one recipient,
of all the agent's batches and open windows, holds the phone and was due when the call began. Any other call of one of
the batch's recipients is left alone and counted as ambiguous. Ingesting is idempotent, so a walk may stop anywhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import msgspec
import structlog

from service.errors import ProviderError
from service.formant.client import FormantClient
from service.formant.conversations import Conversation, to_event
from service.formant.events import ANYWHERE, Event
from service.formant.listing import PAGE_ROWS, ListWalk
from service.formant.regions import Regions
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer

logger = structlog.get_logger()

PAGES_OF_PROOF = 3
"""So many pages in a row, wholly before the batch and each older than the one before it, end a walk."""
SAME_CALL = timedelta(seconds=2)
CLOCK_SKEW = timedelta(minutes=5)
ORDER_SLACK = timedelta(hours=1)


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a walk has come; kept with the batch's lease, so that another worker may go on."""

    offset: int = 0
    healed: int = 0
    ambiguous: int = 0
    unknown: int = 0
    refused: int = 0
    is_whole: bool = True
    """False when it was taken up again in the middle: calls that came meanwhile stand before where it went on."""
    found: int = 0
    unknown_there: list[int] = []
    """A few of the recipients of whom we know a call that the walk did not meet."""
    walked_at: datetime | None = None
    ending: str = ""
    """Why the list could not be read to its end; empty where it could."""


Save: TypeAlias = Callable[[Progress], Awaitable[None]]


class HealedBatch(NamedTuple):
    """The batch that a walk is for."""

    batch_key: int
    agent_id: int
    began_at: datetime
    may_retry: bool
    """The provider's figures say that recipients wait for a retry."""


class Healer:
    """Walks, and ingests what is missing. ``save`` keeps progress and lease, and raises when the lease was lost."""

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
    ) -> Progress:
        """Goes through the conversations once, from where ``progress`` stands; adds the ids of all that it meets to
        ``met``. Raises ProviderError when the provider cannot be read; what was healed until then stays so."""
        since = batch.began_at - CLOCK_SKEW
        pages: list[list[Conversation]] = []
        walk = ListWalk(lambda offset: client.list_conversations(batch.agent_id, PAGE_ROWS, offset), progress.offset)
        progress.ending = ""
        while (page := await walk.read()) is not None:
            pages = [*pages, page.data][-PAGES_OF_PROOF:]
            met.update(record.conversation_id for record in page.data)
            wanted = [
                record
                for record in page.data
                if record.agent_id in {None, batch.agent_id} and not _is_before(record, since)
            ]
            await self._heal_page(client, batch, wanted, progress, save)
            if walk.ending is not None or _is_past(pages, since):
                break
            progress.offset = walk.offset
            await save(progress)
        if walk.ending is not None and walk.ending != "end":
            progress.ending = walk.ending
            self._metrics.list_flaws.labels("conversations", walk.ending).inc()
            logger.warning("walk_cut_short", agent_id=batch.agent_id, reason=walk.ending)
        return progress

    async def _heal_page(
        self,
        client: FormantClient,
        batch: HealedBatch,
        records: list[Conversation],
        progress: Progress,
        save: Save,
    ) -> None:
        found = self._database.queries.find_called_recipients(
            self._database.pool,
            agent_id=batch.agent_id,
            phone=[record.read_phone(self._regions.find(batch.agent_id)) for record in records],
            conversation_id=[record.conversation_id for record in records],
            started_at=[record.started_at for record in records],
            called_at=[record.started_at or record.ended_at for record in records],
            until=[record.ended_at or record.started_at for record in records],
        )
        candidates: dict[int, list[Any]] = {}
        async for row in found:
            candidates.setdefault(row["n"] - 1, []).append(row)
        for index, rows in candidates.items():
            if all(row["batch_key"] != batch.batch_key for row in rows):
                continue
            record = records[index]
            chosen = choose(rows)
            if chosen is None:
                progress.ambiguous += 1
            elif not record.is_terminal:
                progress.unknown += record.ended_at is not None
            elif chosen["batch_key"] == batch.batch_key and not _is_known(chosen, record, batch.may_retry):
                await self._heal(client, batch, record, chosen, progress)
                await save(progress)

    async def _heal(
        self, client: FormantClient, batch: HealedBatch, record: Conversation, chosen: Any, progress: Progress
    ) -> None:
        """Ingests a call, which then finds its place."""
        conversation = await _fetch(client, record)
        event = to_event(
            conversation._replace(agent_id=batch.agent_id),
            received_at=self._now(),
            may_retry=batch.may_retry,
            region=self._regions.find(batch.agent_id),
            contradicted=_find_contradicted(chosen, conversation),
        )
        if event is None or await self._has(event):
            return
        async with self._turn:
            is_written = await self._writer.write_one(event)
        if not is_written:
            progress.found += 1
            progress.refused += 1
            logger.warning("healing_refused", agent_id=batch.agent_id)
        elif await self._has(event):
            progress.found += 1
            progress.healed += 1
            self._metrics.healed.inc()
        else:  # it waits: several windows may have made this call, or none
            progress.ambiguous += 1

    async def _has(self, event: Event) -> bool:
        """Whether it is known and has found its place."""
        known: bool = await self._database.queries.has_event(self._database.pool, event_id=event.event_id)
        return known


def choose(candidates: list[Any]) -> Any | None:
    """The one place that the evidence points to, or None. Rows as ``find_called_recipients`` gives them."""
    same = [row for row in candidates if row["is_same"]]
    due = [] if same or any(row["is_waiting"] for row in candidates) else [row for row in candidates if row["is_due"]]
    found = same or due
    for evidence in ("is_named", "is_exact"):
        found = [row for row in found if row[evidence]] or found
    return found[0] if len(found) == 1 else None


def _is_known(row: Any, record: Conversation, may_retry: bool) -> bool:
    """Whether nothing new can be learned from this call: known, and as final as it can be told."""
    return _agrees(row, record) and (row["is_certain"] or may_retry)


def _agrees(row: Any, conversation: Conversation) -> bool:
    """Whether what is known of this call says the same; the provider may tell a carrier's failure as any other."""
    known, told = row["latest_status"], conversation.status
    return known == told or (known, told) == ("telephony_failed", "failed")


def _find_contradicted(row: Any, conversation: Conversation) -> tuple[int, datetime] | None:
    """The number and time of what is known of this very call by a webhook, where the conversation says otherwise."""
    if row["call_number"] is None or row["known_until"] is None or _agrees(row, conversation):
        return None
    return row["call_number"], row["known_until"]


async def _fetch(client: FormantClient, record: Conversation) -> Conversation:
    """The whole conversation. Attempts may share an id, and the provider then gives the latest: for an earlier one,
    what the list tells is all there is."""
    try:
        conversation = await client.get_conversation(record.conversation_id)
    except ProviderError as error:
        if error.status != 404:
            raise
        return record
    if conversation.started_at is None or record.started_at is None:
        is_same = conversation.started_at == record.started_at
    else:
        is_same = abs(conversation.started_at - record.started_at) <= SAME_CALL
    return conversation if is_same and conversation.is_terminal else record


def _is_before(record: Conversation, since: datetime) -> bool:
    return record.started_at is not None and record.started_at < since


def _is_past(pages: list[list[Conversation]], since: datetime) -> bool:
    """Whether the last pages prove that the list goes backwards and has left the batch behind."""
    newest = [
        max((record.started_at for record in page if record.started_at is not None), default=None) for page in pages
    ]
    times = [time for time in newest if time is not None and time < since - ORDER_SLACK]
    return len(times) == PAGES_OF_PROOF and times[0] > times[1] > times[2]
