"""A run of ``outcomes crm-sync``: reads its own few settings, puts the parts together and runs them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import structlog
import uvloop

from service.crm.delivery import Delivery
from service.crm.exchange import SyncError, repeat
from service.crm.failures import FailuresFile, open_failures
from service.crm.feed import FeedReader, Place, open_feed
from service.crm.hubspot import HubSpotTarget
from service.crm.job import FieldCheck, SyncJob, Tell, Totals, check_unchanged
from service.crm.mapping import HubSpot, Mapping, load_mapping
from service.crm.records import Mapper
from service.crm.report import mask, show_progress, tell_totals
from service.crm.targets import GenericTarget, Target, open_target
from service.errors import ConfigurationError
from service.settings import SyncSettings, find_unknown_names, read_sync_settings
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()


def run_sync(
    mapping_file: Path,
    *,
    is_once: bool,
    is_dry: bool,
    failures: Path | None,
    retry_failures: Path | None,
    from_start: bool,
    accepts_change: bool,
    accepts_unknown: bool,
    limit: int,
    give_up_after: int,
) -> None:
    """Syncs, tells what came of it, and ends with the status that the help names."""
    settings = _start()
    mapping = load_mapping(mapping_file)
    path = retry_failures or failures or Path(f"{mapping.consumer}.failures.ndjson")
    doing = "Looking what would be sent" if is_dry else "Trying failures again" if retry_failures else "Syncing"
    stopped: SyncError | None = None
    with nullcontext() if is_dry else open_failures(path) as failures_file, show_progress(doing) as tell:
        run = _Run(
            settings, mapping, limit, tell, from_start=from_start, accepts_change=accepts_change,
            accepts_unknown=accepts_unknown, is_patient=not (is_once or is_dry or retry_failures),
        )  # fmt: skip
        try:
            if failures_file is None:
                uvloop.run(run.look())
            elif retry_failures:
                uvloop.run(run.retry(failures_file))
            else:
                uvloop.run(run.sync(failures_file, give_up_after=give_up_after))
        except SyncError as error:
            stopped = error
    if run.totals.read or not stopped:
        tell_totals(
            run.totals, is_dry=is_dry, is_retry=bool(retry_failures), is_stopped=bool(stopped), failures_file=str(path)
        )
    if stopped:
        raise SyncError(mask(str(stopped))) from stopped
    sys.exit(1 if run.totals.failed else 0)


def _start() -> SyncSettings:
    settings = read_sync_settings(os.environ)
    configure_logs(settings.log_level, for_people=sys.stderr.isatty())
    for name, nearest in find_unknown_names(os.environ).items():
        logger.warning("unknown_setting", setting=name, nearest=nearest)
    if not settings.feed_key:
        raise ConfigurationError(
            "OUTCOMES_FEED_KEY is empty: set it to a key of the service with the scope feed (the demo's is demo-key)"
        )
    return settings


class _Run:
    """One run of the command. ``is_patient``: outages are waited out, since nobody waits for the end."""

    def __init__(
        self,
        settings: SyncSettings,
        mapping: Mapping,
        limit: int,
        tell: Tell,
        *,
        from_start: bool,
        accepts_change: bool,
        accepts_unknown: bool,
        is_patient: bool,
    ) -> None:
        self.totals = Totals()
        self._settings = settings
        self._mapping = mapping
        self._limit = limit
        self._tell = tell
        self._from_start = from_start
        self._accepts_change = accepts_change
        self._accepts_unknown = accepts_unknown
        self._is_patient = is_patient

    async def look(self) -> None:
        """Sends nothing, and needs no token; with one the CRM's properties are checked as well."""
        async with self._open_feed() as feed:
            place = await self._find_place(feed)
            job = await self._prepare(feed)
            if self._settings.crm_token:
                async with self._open_target():
                    pass
            await job.run_dry(place.position)

    async def retry(self, failures: FailuresFile) -> None:
        """The mapping may have changed meanwhile: that is often why they can be taken now."""
        async with self._open_feed() as feed:
            job = await self._prepare(feed)
            async with self._open_target() as target:
                await job.retry(Delivery(target, is_patient=self._is_patient, give_up_after=0), failures)

    async def sync(self, failures: FailuresFile, *, give_up_after: int) -> None:
        """Until the end of the feed, or a signal: what is not acknowledged then comes again."""
        async with self._open_feed() as feed:
            running = asyncio.ensure_future(self._sync(feed, failures, give_up_after))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, running.cancel)
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()
            elif not self._is_patient:
                sys.exit(1)  # it was to come to the end, and did not

    async def _sync(self, feed: FeedReader, failures: FailuresFile, give_up_after: int) -> None:
        place = await self._find_place(feed)
        job = await self._prepare(feed)
        async with self._open_target() as target:
            digest = self._mapping.digest()
            if place.tag != digest and (place.tag is not None or place.position or self._from_start):
                await feed.acknowledge(self._mapping.consumer, place.position, digest, is_reset=self._from_start)
            delivery = Delivery(target, is_patient=self._is_patient, give_up_after=give_up_after)
            await job.run(place.position, delivery, failures, is_following=self._is_patient)

    async def _find_place(self, feed: FeedReader) -> Place:
        """Where to go on; raises SyncError when that place was reached with another mapping."""
        if self._from_start:
            return Place()
        place = await feed.get_place(self._mapping.consumer)
        if not self._accepts_change:
            check_unchanged(place, self._mapping)
        return place

    async def _prepare(self, feed: FeedReader) -> SyncJob:
        """The job, once the fields of the mapping are checked."""
        fields = FieldCheck(feed, self._mapping, is_accepted=self._accepts_unknown)
        await fields.run()
        mapper = Mapper(self._mapping, accepts_keyless=self._accepts_unknown)
        return SyncJob(feed, mapper, fields, self._mapping, self._limit, self._tell, self.totals)

    @asynccontextmanager
    async def _open_feed(self) -> AsyncIterator[FeedReader]:
        async with open_feed(self._settings.url, self._settings.feed_key) as http:
            yield FeedReader(http, is_patient=self._is_patient)

    @asynccontextmanager
    async def _open_target(self) -> AsyncIterator[Target]:
        """The CRM, once it has said that it has the properties of the mapping."""
        if not self._settings.crm_token:
            raise ConfigurationError("OUTCOMES_CRM_TOKEN is empty: set it to the CRM's token (--dry-run needs none)")
        async with open_target(self._settings.crm_token) as http:
            given = self._mapping.target
            target: Target = (
                HubSpotTarget(http, given, self._mapping.key)
                if isinstance(given, HubSpot)
                else GenericTarget(http, given)
            )
            properties = self._mapping.property_names()
            await repeat(lambda: target.check(properties), "crm", is_patient=self._is_patient)
            yield target
