"""The job: copies pages of the feed into the CRM, and acknowledges each once it is there or in the failures file."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from service.crm.delivery import Delivery, Reasons
from service.crm.entries import OPEN_FIELDS, Entry, UnreadableError, suggest
from service.crm.exchange import SyncError
from service.crm.failures import FailuresFile
from service.crm.feed import AgentFields, FeedReader, Place, refuse_pause
from service.crm.mapping import Mapping
from service.crm.records import Failure, Mapper, Record, list_names

logger = structlog.get_logger()

WAIT_SECONDS = 30  # per long poll
MAX_SAMPLES = 3


def check_unchanged(place: Place, mapping: Mapping) -> None:
    """Raises SyncError when the consumer reached its position with another mapping: the records sent so far lack what
    is new in this one. A position without a tag is from an earlier version, which stored none."""
    if place.tag not in {None, mapping.digest()}:
        raise SyncError(
            f"The mapping has changed since {mapping.consumer} reached position {place.position}: the CRM's records "
            "were sent with another. --from-start sends everything again; --accept continues from here with this one"
        )


@dataclass
class FieldCheck:
    """Compares the fields of a mapping with those that recipients really have. ``is_done``: skips the check."""

    feed: FeedReader
    mapping: Mapping
    is_done: bool

    async def run(self) -> None:
        """Raises SyncError for unknown fields. Done as soon as an agent has a batch."""
        if not self.is_done:
            agents = await self.feed.list_fields()
            if faults := find_unknown(self.mapping, agents) if agents else []:
                raise SyncError(
                    f"{'; '.join(faults)}. Nothing was sent. Repair the mapping file; --accept-unknown continues "
                    "anyway, such as for a result that no call has had yet"
                )
            self.is_done = bool(agents)


def find_unknown(mapping: Mapping, agents: Iterable[AgentFields]) -> list[str]:
    """A message for each field that no agent has, with the nearest known one."""
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
            problem = "no recipient has" if kind == "parameters" else "no call has had a result"
            what = "columns" if kind == "parameters" else "results"
            faults.append(f"{place}: {problem} {name!r}{suggest(name, known[kind])}; {list_names(what, known[kind])}")
    return faults


@dataclass
class Totals:
    """The counts of a run. ``sent`` counts the records that the CRM confirmed. When a run is stopped, ``read`` includes
    its last page, which comes again."""

    position: int = 0  # read up to here; acknowledged, unless it is a dry run or a retry
    read: int = 0
    sent: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    reasons: Reasons = field(default_factory=Reasons)
    samples: list[Record] = field(default_factory=list)  # of a dry run

    @property
    def unsettled(self) -> int:
        """Number of entries read that are neither sent, failed nor skipped."""
        return self.read - self.sent - self.failed - self.skipped.total()

    def note(self, failures: list[Failure]) -> None:
        """Counts failures by reason."""
        self.failed += len(failures)
        for each in failures:
            self.reasons.add(each.summary or each.reason, f"{each.batch_id}-{each.recipient}")


Report = Callable[[Totals], None]


@dataclass(frozen=True)
class SyncJob:
    """Follows the feed as the mapping's consumer, ``page_size`` entries at a time, and counts in ``totals``; ``report``
    is called after every page. Each acknowledged position is stored with the mapping's digest."""

    feed: FeedReader
    mapper: Mapper
    fields: FieldCheck
    mapping: Mapping
    page_size: int
    report: Report
    totals: Totals

    async def run(self, position: int, delivery: Delivery, failures: FailuresFile, *, is_following: bool) -> None:
        """Syncs from a position to the end of the feed or, with ``is_following``, until cancelled."""
        self.totals.position = position
        tag = self.mapping.digest()
        while True:
            page = await self.feed.read(position, self.page_size, WAIT_SECONDS if is_following else 0)
            if page.data:
                await self._sync(page.data, delivery, failures)
            if page.next > position:
                place = await self.feed.acknowledge(self.mapping.consumer, page.next, tag)
                position = self.totals.position = page.next
                self.report(self.totals)
                refuse_pause(place, self.mapping.consumer)
            if not is_following and not page.has_more:
                return

    async def _sync(self, entries: list[Entry], delivery: Delivery, failures: FailuresFile) -> None:
        self.totals.read += len(entries)
        await self.fields.run()
        self.mapper.check_keys(entries)
        mapped = self.mapper.map(entries)
        sent = self.totals.sent
        failed = mapped.failures + await self._deliver(mapped.records, delivery)
        failures.append(failed)
        self.totals.skipped += mapped.skipped
        self.totals.note(failed)
        logger.info(
            "crm_page_synced", consumer=self.mapping.consumer, position=entries[-1].position,
            sent=self.totals.sent - sent, failed=len(failed), skipped=mapped.skipped.total(),
        )  # fmt: skip

    async def _deliver(self, records: list[Record], delivery: Delivery) -> list[Failure]:
        """As ``Delivery.deliver``; confirmed records are counted even when it raises."""
        taken = delivery.taken
        try:
            return await delivery.deliver(records)
        finally:
            self.totals.sent += delivery.taken - taken

    async def run_dry(self, position: int) -> None:
        """Reads to the end of the feed and sends nothing; the totals count what would be sent."""
        while True:
            page = await self.feed.read(position, self.page_size)
            self.totals.read += len(page.data)
            self.mapper.check_keys(page.data)
            mapped = self.mapper.map(page.data)
            self.totals.sent += len(mapped.records)
            self.totals.skipped += mapped.skipped
            self.totals.note(mapped.failures)
            self.totals.samples += mapped.records[: MAX_SAMPLES - len(self.totals.samples)]
            position = self.totals.position = max(position, page.next)
            self.report(self.totals)
            if not page.has_more:
                return

    async def retry(self, delivery: Delivery, failures: FailuresFile) -> None:
        """Sends the current outcomes of the failures; those that fail again stay in the file, with the new reason.

        Reads the feed from the first failure on: a later entry, even of another recipient, may have the same key.
        """
        failed = failures.read()
        if not failed:
            return
        entries = await self._find({each.key for each in failed}, failed)
        mapped = self.mapper.map(entries)
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
            page = await self.feed.read(position, self.page_size)
            found += [
                each for each in page.data if (each.batch_id, each.recipient) in recipients or self._has_key(each, keys)
            ]
            position = self.totals.position = max(position, page.next)
            self.report(self.totals)
            if not page.has_more:
                return found

    def _has_key(self, entry: Entry, keys: set[str]) -> bool:
        try:
            return self.mapper.read_key(entry) in keys
        except UnreadableError:
            return False
