"""A run of ``outcomes crm-sync``: reads its settings, assembles the parts and runs them."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from service.crm.delivery import Delivery
from service.crm.exchange import SyncError, repeat
from service.crm.failures import FailuresFile, open_failures
from service.crm.feed import FeedReader, Place, open_feed, refuse_pause
from service.crm.hubspot import HubSpotTarget
from service.crm.job import FieldCheck, Report, SyncJob, Totals, check_unchanged
from service.crm.mapping import HubSpot, Mapping, load_mapping
from service.crm.records import Mapper
from service.crm.report import mask, print_totals, show_progress
from service.crm.targets import CrmTarget, GenericTarget, open_target
from service.environment import find_environ
from service.errors import ConfigurationError
from service.settings import SyncSettings, find_unknown_names, read_sync_settings
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """The arguments of a run."""

    mapping_file: Path
    is_once: bool
    is_dry: bool
    failures: Path | None
    retry_failures: Path | None
    from_start: bool
    accepts_change: bool
    accepts_unknown: bool
    page_size: int
    give_up_after: int

    @property
    def is_patient(self) -> bool:
        """Whether outages are waited out: only the run that follows the feed has no end."""
        return not (self.is_once or self.is_dry or self.retry_failures)


def run_sync(options: SyncOptions) -> None:
    """Syncs, prints the totals, and exits with the status that the help lists. Only the run that follows the feed logs
    JSON; the others are for people."""
    settings = _start(for_people=not options.is_patient)
    mapping = load_mapping(options.mapping_file)
    path = options.retry_failures or options.failures or Path(f"{mapping.consumer}.failures.ndjson")
    activity = "Reading" if options.is_dry else "Retrying failures" if options.retry_failures else "Syncing"
    stopped: SyncError | None = None
    totals = Totals()
    with (
        nullcontext() if options.is_dry else open_failures(path) as failures,
        show_progress(activity, is_quiet=options.is_patient) as report,
    ):
        run = _Run(settings, mapping, options, report, totals)
        try:
            if failures is None:
                uvloop.run(run.preview())
            elif options.retry_failures:
                uvloop.run(run.retry(failures))
            else:
                uvloop.run(run.sync(failures))
        except SyncError as error:
            stopped = error
    if totals.read or not stopped:
        print_totals(
            totals, is_dry=options.is_dry, is_retry=bool(options.retry_failures), is_stopped=bool(stopped),
            failures_file=str(path),
        )  # fmt: skip
    if stopped:
        raise SyncError(mask(str(stopped))) from stopped
    sys.exit(1 if totals.failed else 0)


def _start(*, for_people: bool) -> SyncSettings:
    environ = find_environ("OUTCOMES_URL")
    settings = read_sync_settings(environ)
    configure_logs(settings.log_level, for_people=for_people)
    for name, nearest in find_unknown_names(environ).items():
        logger.warning("unknown_setting", setting=name, nearest=nearest)
    if not settings.feed_key:
        raise ConfigurationError("OUTCOMES_FEED_KEY is empty: set it to a key of the service with the scope feed")
    return settings


@dataclass(frozen=True)
class _Run:
    settings: SyncSettings
    mapping: Mapping
    options: SyncOptions
    report: Report
    totals: Totals

    async def preview(self) -> None:
        """Sends nothing and needs no token; with one it checks the CRM's properties as well."""
        async with self._open_feed() as feed:
            place = await self._find_place(feed)
            job = await self._prepare(feed)
            if self.settings.crm_token:
                async with self._open_target():
                    pass
            await job.run_dry(place.position)

    async def retry(self, failures: FailuresFile) -> None:
        """Accepts a changed mapping: that is often why the CRM accepts the records now."""
        async with self._open_feed() as feed:
            job = await self._prepare(feed)
            async with self._open_target() as target:
                await job.retry(Delivery(target, is_patient=False, give_up_after=0), failures)

    async def sync(self, failures: FailuresFile) -> None:
        """Syncs to the end of the feed, or until a signal: entries not acknowledged then come again."""
        async with self._open_feed() as feed:
            running = asyncio.ensure_future(self._sync(feed, failures))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, running.cancel)
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()
            elif self.options.is_once:
                sys.exit(1)  # it did not reach the end

    async def _sync(self, feed: FeedReader, failures: FailuresFile) -> None:
        options = self.options
        place = await self._find_place(feed)
        refuse_pause(place, self.mapping.consumer)
        job = await self._prepare(feed)
        async with self._open_target() as target:
            digest = self.mapping.digest()
            if place.tag != digest and (place.tag is not None or place.position or options.from_start):
                await feed.acknowledge(self.mapping.consumer, place.position, digest, is_reset=options.from_start)
            delivery = Delivery(target, is_patient=options.is_patient, give_up_after=options.give_up_after)
            await job.run(place.position, delivery, failures, is_following=options.is_patient)

    async def _find_place(self, feed: FeedReader) -> Place:
        """Where to start; raises SyncError when another mapping reached that place."""
        if self.options.from_start:
            return Place()
        place = await feed.get_place(self.mapping.consumer)
        if not self.options.accepts_change:
            check_unchanged(place, self.mapping)
        return place

    async def _prepare(self, feed: FeedReader) -> SyncJob:
        """The job, once the fields of the mapping are checked."""
        fields = FieldCheck(feed, self.mapping, is_done=self.options.accepts_unknown)
        await fields.run()
        mapper = Mapper(self.mapping, accepts_keyless=self.options.accepts_unknown)
        return SyncJob(feed, mapper, fields, self.mapping, self.options.page_size, self.report, self.totals)

    @asynccontextmanager
    async def _open_feed(self) -> AsyncIterator[FeedReader]:
        async with open_feed(self.settings.url, self.settings.feed_key) as http:
            yield FeedReader(http, is_patient=self.options.is_patient)

    @asynccontextmanager
    async def _open_target(self) -> AsyncIterator[CrmTarget]:
        """The CRM, once it has confirmed the properties of the mapping."""
        if not self.settings.crm_token:
            raise ConfigurationError("OUTCOMES_CRM_TOKEN is empty: set it to the CRM's token (--dry-run needs none)")
        async with open_target(self.settings.crm_token) as http:
            given = self.mapping.target
            target: CrmTarget = (
                HubSpotTarget(http, given, self.mapping.key)
                if isinstance(given, HubSpot)
                else GenericTarget(http, given)
            )
            properties = self.mapping.property_names()
            await repeat(lambda: target.check(properties), "crm", is_patient=self.options.is_patient)
            yield target
