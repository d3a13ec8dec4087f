"""The command ``outcomes crm-sync``: reads its own few settings, puts the parts together and runs them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import click
import structlog
import uvloop

from service.crm.delivery import Delivery
from service.crm.failures import FailuresFile, open_failures
from service.crm.feed import FeedReader, open_feed
from service.crm.generic import GenericTarget
from service.crm.hubspot import HubSpotTarget
from service.crm.job import SyncJob, Tell
from service.crm.mapping import HubSpot, Mapping, load_mapping
from service.crm.records import Mapper
from service.crm.targets import Target, open_target
from service.crm.telling import show_progress, tell_totals
from service.errors import ConfigurationError
from service.logs import configure_logs
from service.settings import SyncSettings, find_unknown_names, read_sync_settings

logger = structlog.get_logger()

_EXAMPLES = """\b
Try it:
  outcomes crm-sync deploy/crm/hubspot.toml --dry-run     what would be sent
  outcomes crm-sync deploy/crm/hubspot.toml --once        send what is new, and end
  outcomes crm-sync deploy/crm/hubspot.toml               go on as outcomes change
"""


@click.command("crm-sync", epilog=_EXAMPLES)
@click.argument("mapping_file", metavar="MAPPING", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="End at the end of the feed, instead of waiting for more.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, phones masked; send and acknowledge nothing.")
@click.option(
    "--failures", type=click.Path(path_type=Path), show_default="CONSUMER.failures.ndjson",
    help="Where outcomes are kept that the CRM did not take.",
)  # fmt: skip
@click.option(
    "--retry-failures", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Send the present outcomes of those in such a file, and end; who fails again stays in it.",
)  # fmt: skip
@click.option("--from-start", is_flag=True, help="Forget what was acknowledged, and send everything again.")
@click.option(
    "--page", "limit", default=500, show_default=True, type=click.IntRange(1, 1000),
    help="Entries of the feed between two acknowledgements.",
)  # fmt: skip
@click.option(
    "--give-up-after", default=20, show_default=True, type=click.IntRange(0),
    help="Stop when so many first records are all refused, since the mapping is wrong then; 0: never.",
)  # fmt: skip
def crm_sync(
    mapping_file: Path,
    once: bool,
    dry_run: bool,
    failures: Path | None,
    retry_failures: Path | None,
    from_start: bool,
    limit: int,
    give_up_after: int,
) -> None:
    """Upserts recipients' outcomes into a CRM, as the feed tells them and as the file MAPPING says.

    It is a client of the service (OUTCOMES_URL, OUTCOMES_FEED_KEY) and of the CRM (OUTCOMES_CRM_TOKEN), and goes on
    from where its consumer has come to. A position is acknowledged once everything up to it is in the CRM or in the
    failures file. Ends with 1 when some records failed.
    """
    if retry_failures and (dry_run or from_start or failures):
        raise click.UsageError("--retry-failures goes with none of --dry-run, --from-start and --failures")
    settings = _start()
    mapping = load_mapping(mapping_file)
    path = retry_failures or failures or Path(f"{mapping.consumer}.failures.ndjson")
    doing = "Looking what would be sent" if dry_run else "Trying failures again" if retry_failures else "Syncing"
    with nullcontext() if dry_run else open_failures(path) as failures_file, show_progress(doing) as tell:
        run = _Run(settings, mapping, limit, tell, is_patient=not (once or dry_run or retry_failures))
        if failures_file is None:
            job = uvloop.run(run.look(from_start=from_start))
        elif retry_failures:
            job = uvloop.run(run.retry(failures_file))
        else:
            job = uvloop.run(run.sync(failures_file, from_start=from_start, give_up_after=give_up_after))
    tell_totals(job.totals, is_dry=dry_run, is_retry=bool(retry_failures), failures_file=str(path))
    sys.exit(1 if job.totals.failed else 0)


def _start() -> SyncSettings:
    settings = read_sync_settings(os.environ)
    # Where somebody looks, the progress tells it all.
    configure_logs("warning" if sys.stderr.isatty() and settings.log_level == "info" else settings.log_level)
    for name, nearest in find_unknown_names(os.environ).items():
        logger.warning("unknown_setting", setting=name, nearest=nearest)
    if not settings.feed_key:
        raise ConfigurationError("OUTCOMES_FEED_KEY is empty: set it to a key of the service with the scope feed")
    return settings


class _Run:
    """One run of the command. ``is_patient``: outages are waited out, since nobody waits for the end."""

    def __init__(self, settings: SyncSettings, mapping: Mapping, limit: int, tell: Tell, *, is_patient: bool) -> None:
        self._settings = settings
        self._mapping = mapping
        self._limit = limit
        self._tell = tell
        self._is_patient = is_patient

    async def look(self, *, from_start: bool) -> SyncJob:
        """Sends nothing, and needs no token."""
        async with self._open_job() as (job, _):
            await job.run_dry(from_start=from_start)
            return job

    async def retry(self, failures: FailuresFile) -> SyncJob:
        async with self._open_job() as (job, _), self._open_delivery(give_up_after=0) as delivery:
            await job.retry(delivery, failures)
            return job

    async def sync(self, failures: FailuresFile, *, from_start: bool, give_up_after: int) -> SyncJob:
        """Until the end of the feed, or a signal: what is not acknowledged then comes again."""
        async with self._open_job() as (job, feed), self._open_delivery(give_up_after=give_up_after) as delivery:
            if from_start:
                await feed.forget(self._mapping.consumer)
            running = asyncio.ensure_future(job.run(delivery, failures, is_following=self._is_patient))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, running.cancel)
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()
            elif not self._is_patient:
                raise asyncio.CancelledError  # it was to come to the end, and did not
            return job

    @asynccontextmanager
    async def _open_job(self) -> AsyncIterator[tuple[SyncJob, FeedReader]]:
        async with open_feed(self._settings.url, self._settings.feed_key) as http:
            feed = FeedReader(http, is_patient=self._is_patient)
            yield SyncJob(feed, Mapper(self._mapping), self._mapping.consumer, self._limit, self._tell), feed

    @asynccontextmanager
    async def _open_delivery(self, *, give_up_after: int) -> AsyncIterator[Delivery]:
        if not self._settings.crm_token:
            raise ConfigurationError("OUTCOMES_CRM_TOKEN is empty: set it to the CRM's token (--dry-run needs none)")
        async with open_target(self._settings.crm_token) as http:
            given = self._mapping.target
            target: Target = (
                HubSpotTarget(http, given, self._mapping.key)
                if isinstance(given, HubSpot)
                else GenericTarget(http, given)
            )
            yield Delivery(target, is_patient=self._is_patient, give_up_after=give_up_after)
