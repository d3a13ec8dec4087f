"""The job: pages of the feed into the CRM, each acknowledged once all of it is there or in the failures file."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from service.crm.delivery import Delivery, Reasons
from service.crm.entries import OPEN_FIELDS, Entry, UnreadableError, suggest
from service.crm.exchange import SyncError
from service.crm.failures import FailuresFile
from service.crm.feed import AgentFields, FeedReader, Place
from service.crm.mapping import Mapping
from service.crm.records import Failure, Mapper, Record, list_names

logger = structlog.get_logger()

WAIT_SECONDS = 30  # of a long-poll
SAMPLES = 3  # records of a dry run


def check_unchanged(place: Place, mapping: Mapping) -> None:
    """Raises SyncError when the consumer came to its place with another mapping: what was sent until then lacks what is
    new in this one. A place without a tag is of an earlier version, which kept none."""
    if place.tag not in {None, mapping.digest()}:
        raise SyncError(
            f"The mapping has changed since {mapping.consumer} came to position {place.position}: what is in the CRM "
            "was sent with another one. --from-start sends everything again; --accept goes on from here with this one"
        )


class FieldCheck:
    """Holds the fields of a mapping against those that the agents' recipients really have, unless they are accepted as
    they are."""

    def __init__(self, feed: FeedReader, mapping: Mapping, *, is_accepted: bool) -> None:
        self._feed = feed
        self._mapping = mapping
        self._is_done = is_accepted

    async def run(self) -> None:
        """Raises SyncError for fields that there are not. Checks once, as soon as there is anything to compare with."""
        if not self._is_done:
            agents = await self._feed.list_fields()
            if faults := find_unknown(self._mapping, agents) if agents else []:
                raise SyncError(
                    f"{'; '.join(faults)}. Nothing was sent. Repair the mapping file; --accept-unknown goes on all the "
                    "same, such as for a result that no call has had yet"
                )
            self._is_done = bool(agents)


def find_unknown(mapping: Mapping, agents: Iterable[AgentFields]) -> list[str]:
    """What is wrong with each field that no agent has, with the nearest that one has."""
    known: dict[str, set[str]] = {"parameters": set(), "results": set()}
    for agent in agents:
        known["parameters"].update(agent.parameters)
        known["results"].update(agent.results)
    fields = {"key.parameter": mapping.key.source} if mapping.key.parameter else {}
    fields |= {f"properties.{name}": rule.field for name, rule in mapping.rules().items()}
    faults = []
    for place, path in fields.items():
        kind, _, name = path.partition(".")
        if kind in OPEN_FIELDS and name not in known[kind]:
            told = "no recipient has" if kind == "parameters" else "no call has had a result"
            what = "columns" if kind == "parameters" else "results"
            faults.append(f"{place}: {told} {name!r}{suggest(name, known[kind])}; {list_names(what, known[kind])}")
    return faults


@dataclass
class Totals:
    """What a run has come to. ``sent`` is what the CRM confirmed. Where a run was stopped, its last page is in ``read``
    and only what was sent of it elsewhere: it comes again."""

    position: int = 0  # read up to here; acknowledged, unless it is a dry run or a retry
    read: int = 0
    sent: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    reasons: Reasons = field(default_factory=Reasons)
    samples: list[Record] = field(default_factory=list)  # of a dry run

    @property
    def unsettled(self) -> int:
        """How many were read and are neither sent, failed nor skipped."""
        return self.read - self.sent - self.failed - self.skipped.total()

    def note(self, failures: list[Failure]) -> None:
        """Counts failures by reason."""
        self.failed += len(failures)
        for each in failures:
            self.reasons.add(each.summary or each.reason, f"{each.batch_id}-{each.recipient}")


Tell = Callable[[Totals], None]


class SyncJob:
    """Follows the feed as the mapping's consumer, ``limit`` entries at a time, and counts in ``totals``; ``tell`` hears
    of every page. The mapping's digest is kept with each position that is acknowledged."""

    def __init__(
        self,
        feed: FeedReader,
        mapper: Mapper,
        fields: FieldCheck,
        mapping: Mapping,
        limit: int,
        tell: Tell,
        totals: Totals,
    ) -> None:
        self._feed = feed
        self._mapper = mapper
        self._fields = fields
        self._consumer = mapping.consumer
        self._tag = mapping.digest()
        self._limit = limit
        self._tell = tell
        self.totals = totals

    async def run(self, position: int, delivery: Delivery, failures: FailuresFile, *, is_following: bool) -> None:
        """Syncs from a position on: to the end of the feed, or ``is_following`` it until cancelled."""
        self.totals.position = position
        while True:
            page = await self._feed.read(position, self._limit, WAIT_SECONDS if is_following else 0)
            if page.data:
                await self._sync(page.data, delivery, failures)
            if page.next > position:
                await self._feed.acknowledge(self._consumer, page.next, self._tag)
                position = self.totals.position = page.next
                self._tell(self.totals)
            if not is_following and not page.has_more:
                return

    async def _sync(self, entries: list[Entry], delivery: Delivery, failures: FailuresFile) -> None:
        self.totals.read += len(entries)
        await self._fields.run()
        self._mapper.check_keys(entries)
        mapped = self._mapper.map(entries)
        sent = self.totals.sent
        failed = mapped.failures + await self._deliver(mapped.records, delivery)
        failures.append(failed)
        self.totals.skipped += mapped.skipped
        self.totals.note(failed)
        logger.info(
            "crm_page_synced", consumer=self._consumer, position=entries[-1].position, sent=self.totals.sent - sent,
            failed=len(failed), skipped=mapped.skipped.total(),
        )  # fmt: skip

    async def _deliver(self, records: list[Record], delivery: Delivery) -> list[Failure]:
        """As ``Delivery.deliver``; what was confirmed is counted even where it stops."""
        taken = delivery.taken
        try:
            return await delivery.deliver(records)
        finally:
            self.totals.sent += delivery.taken - taken

    async def run_dry(self, position: int) -> None:
        """Reads to the end of the feed and sends nothing; the totals say what would be sent."""
        while True:
            page = await self._feed.read(position, self._limit)
            self.totals.read += len(page.data)
            self._mapper.check_keys(page.data)
            mapped = self._mapper.map(page.data)
            self.totals.sent += len(mapped.records)
            self.totals.skipped += mapped.skipped
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
        self.totals.read += len(entries)
        again = mapped.failures + await self._deliver(mapped.records, delivery)
        failures.replace(again)
        self.totals.skipped += mapped.skipped
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
