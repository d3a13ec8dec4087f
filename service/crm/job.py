"""The job: pages of the feed into the CRM, each acknowledged once all of it is there or in the failures file."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.crm.delivery import Delivery
from service.crm.entries import Entry, UnreadableError
from service.crm.failures import FailuresFile
from service.crm.feed import FeedReader
from service.crm.records import Failure, Mapper, Record

logger = structlog.get_logger()

WAIT_SECONDS = 30  # of a long-poll
SHOWN = 20  # failures in the table
SAMPLES = 3  # records of a dry run


@dataclass
class Totals:
    """What a run has come to. ``read`` = ``sent`` + ``failed`` + all that was skipped."""

    position: int = 0  # read up to here; acknowledged, unless it is a dry run or a retry
    read: int = 0
    sent: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)  # the first
    samples: list[Record] = field(default_factory=list)  # of a dry run

    def note(self, failures: list[Failure]) -> None:
        """Counts failures, and keeps the first to be shown."""
        self.failed += len(failures)
        self.failures += failures[: SHOWN - len(self.failures)]


Tell = Callable[[Totals], None]


class SyncJob:
    """Follows the feed as ``consumer``, ``limit`` entries at a time; ``tell`` hears of every page."""

    def __init__(self, feed: FeedReader, mapper: Mapper, consumer: str, limit: int, tell: Tell) -> None:
        self._feed = feed
        self._mapper = mapper
        self._consumer = consumer
        self._limit = limit
        self._tell = tell
        self.totals = Totals()

    async def run(self, delivery: Delivery, failures: FailuresFile, *, is_following: bool) -> None:
        """Syncs from what was acknowledged on: to the end of the feed, or ``is_following`` it until cancelled."""
        position = await self._feed.get_position(self._consumer)
        self.totals.position = position
        while True:
            page = await self._feed.read(position, self._limit, WAIT_SECONDS if is_following else 0)
            if page.data:
                await self._sync(page.data, delivery, failures)
            if page.next > position:
                await self._feed.acknowledge(self._consumer, page.next)
                position = self.totals.position = page.next
                self._tell(self.totals)
            if not is_following and not page.has_more:
                return

    async def _sync(self, entries: list[Entry], delivery: Delivery, failures: FailuresFile) -> None:
        mapped = self._mapper.map(entries)
        failed = mapped.failures + await delivery.deliver(mapped.records)
        failures.append(failed)
        sent = len(mapped.records) + len(mapped.failures) - len(failed)
        self._count(len(entries), sent, mapped.skipped)
        self.totals.note(failed)
        logger.info(
            "crm_page_synced", consumer=self._consumer, position=entries[-1].position, sent=sent, failed=len(failed),
            skipped=mapped.skipped.total(),
        )  # fmt: skip

    async def run_dry(self, *, from_start: bool) -> None:
        """Reads to the end of the feed and sends nothing; the totals say what would be sent."""
        position = 0 if from_start else await self._feed.get_position(self._consumer)
        while True:
            page = await self._feed.read(position, self._limit)
            mapped = self._mapper.map(page.data)
            self._count(len(page.data), len(mapped.records), mapped.skipped)
            self.totals.note(mapped.failures)
            self.totals.samples += mapped.records[: SAMPLES - len(self.totals.samples)]
            position = self.totals.position = max(position, page.next)
            self._tell(self.totals)
            if not page.has_more:
                return

    async def retry(self, delivery: Delivery, failures: FailuresFile) -> None:
        """Sends the present outcomes of those in the file; who fails again stays in it, with the new reason.

        Reads the feed from the first failure on, since a later entry, of another recipient even, may have the same key.
        """
        failed = failures.read()
        if not failed:
            return
        entries = await self._find({each.key for each in failed}, failed)
        mapped = self._mapper.map(entries)
        again = mapped.failures + await delivery.deliver(mapped.records)
        failures.replace(again)
        self._count(len(entries), len(mapped.records) + len(mapped.failures) - len(again), mapped.skipped)
        self.totals.note(again)
        found = {(entry.batch_id, entry.recipient) for entry in entries} | {record.key for record in mapped.records}
        gone = {each.key for each in failed if not {(each.batch_id, each.recipient), each.key} & found}
        self.totals.skipped["gone"] += len(gone)
        self.totals.read += len(gone)

    async def _find(self, keys: set[str], failed: list[Failure]) -> list[Entry]:
        recipients = {(each.batch_id, each.recipient) for each in failed}
        position = min(each.position for each in failed) - 1
        found: list[Entry] = []
        while True:
            page = await self._feed.read(position, self._limit)
            found += [
                each for each in page.data if (each.batch_id, each.recipient) in recipients or self._has_key(each, keys)
            ]
            position = self.totals.position = max(position, page.next)
            self._tell(self.totals)
            if not page.has_more:
                return found

    def _has_key(self, entry: Entry, keys: set[str]) -> bool:
        try:
            return self._mapper.read_key(entry) in keys
        except UnreadableError:
            return False

    def _count(self, read: int, sent: int, skipped: Counter[str]) -> None:
        self.totals.read += read
        self.totals.sent += sent
        self.totals.skipped += skipped
