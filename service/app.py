"""Builds the service: its long-lived parts, their tasks and the routes. Only this module knows all of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import asyncpg
import httpx
import structlog
from starlette.routing import Route

from service.access.auth import Authenticator, KeyRing
from service.access.downloads import DownloadLog
from service.access.http import Audit
from service.access.keys import Keys
from service.access.keys_http import ApiKeys
from service.access.oidc import Oidc, read_oidc
from service.access.oidc_provider import open_provider_http
from service.access.sessions import Sessions
from service.access.sessions_http import ConsoleSessions
from service.alarms.alarms import AlarmWatch
from service.alarms.http import Alarms
from service.background import Background, every, open_background
from service.callbacks.callbacks import Callbacks, CallbackSettings
from service.callbacks.exports_http import CallbackExports
from service.callbacks.http import CallbackList
from service.callbacks.settings_http import CallbackSettingsCalls
from service.console.console import build_console
from service.console.protection import Protection
from service.console.rendering import Renderer
from service.console.sign_in import SignIn
from service.doctor.http import Doctor
from service.errors import DatabaseError
from service.exports.bi_http import Bi
from service.exports.export import Exporter
from service.exports.http import Exports
from service.feed.consumers import Consumers, LagWatch
from service.feed.http import Feed
from service.feed.watch import FeedWatch
from service.formant.client import FormantClient, open_http
from service.formant.opt_outs import OptOuts
from service.formant.regions import Regions
from service.formant.targets import find_regions, load_kinds, load_opt_outs, load_targets
from service.front import Front, build_routes
from service.health import COMMITTER, Health
from service.outage import is_database_away, open_without_database
from service.outcomes.comparison_http import Comparisons
from service.outcomes.filters import FilterReader
from service.outcomes.goals import GoalCounter
from service.outcomes.goals_http import Goals
from service.outcomes.groups_http import OutcomeGroups
from service.outcomes.http import Batches
from service.outcomes.overview_http import Overview
from service.outcomes.recipients_http import Recipients
from service.outcomes.slices import Slicer
from service.people.http import PeopleCalls
from service.people.people import People
from service.privacy.erasure import Eraser
from service.privacy.http import Erasures
from service.privacy.retention import Retention
from service.privacy.retention_http import RetentionSettings
from service.reconciliation.budget import Budget, name_account
from service.reconciliation.budget_http import BudgetView
from service.reconciliation.demand import OnDemand
from service.reconciliation.healer import Healer
from service.reconciliation.http import Reconciliation
from service.reconciliation.reconciler import Reconciler
from service.reconciliation.schedule import ProgressWatch
from service.server.limits import DEFAULT_CONNECTION_LIMITS, ConnectionKeeper, ConnectionLimits
from service.server.process import Service
from service.settings import Settings
from service.spill.spill import open_spill, open_stream
from service.spill.stream import Stream
from service.store.database import Database, open_database
from service.store.migrations import check_schema, migrate, read_migrations
from service.store.preconditions import open_checked
from service.suppressions.http import Suppressions
from service.suppressions.suppressions import SuppressionList
from service.telemetry.metrics import LoopLag, Metrics
from service.telemetry.tracing import run_traces
from service.uploads.agents_http import Agents
from service.uploads.discovery import Discoverer
from service.uploads.dry_runs import DryRuns
from service.uploads.folders import SWEEP_SECONDS, remove_leftovers
from service.uploads.http import Uploads
from service.uploads.lookup import UploadFinder, UploadRecovery
from service.uploads.phone_repair import PhoneRepair
from service.uploads.registration import Registrar
from service.uploads.registration_http import Registrations
from service.uploads.resolution import Resolver
from service.uploads.sending import Sender
from service.uploads.states_http import UploadStates
from service.uploads.uploader import Promoter, Uploader
from service.web.operations import Operation
from service.webhooks.answers import AnswerRecorder
from service.webhooks.answers_http import WebhookAnswers
from service.webhooks.assignments_http import Assignments
from service.webhooks.backlog import Backlog, BacklogLimits
from service.webhooks.calls_http import Calls
from service.webhooks.committer import Committer
from service.webhooks.decoding import open_decoder
from service.webhooks.http import Events
from service.webhooks.quarantine import Replayer
from service.webhooks.quarantine_http import QuarantinedBodies
from service.webhooks.receiver import Receiver
from service.webhooks.repair import Repairer
from service.webhooks.sweep import RuleSweep
from service.webhooks.writer import Writer

logger = structlog.get_logger()

DEFAULT_INTERVAL_SECONDS = 30
MAINTENANCE_SECONDS = 3600
DEFAULT_BACKLOG_LIMITS = BacklogLimits()


async def prepare_schema(url: str, *, may_migrate: bool) -> None:
    """Migrates the schema, or only checks that it fits. Raises DatabaseError, with the remedy, when it does not.

    This is the first use of the database at startup, so an unsuitable server is also refused here.
    """
    connection = await open_checked(url)
    try:
        if may_migrate:
            await migrate(connection)
        else:
            await check_schema(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"The role of OUTCOMES_DATABASE_URL lacks a right ({error}): run `outcomes migrate` as the role that owns "
            "the tables, and `outcomes grant-service` for another role that runs the service"
        ) from error
    finally:
        await connection.close()


@asynccontextmanager
async def open_app(
    settings: Settings,
    database_url: str,
    backlog_limits: BacklogLimits = DEFAULT_BACKLOG_LIMITS,
    connection_limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS,
) -> AsyncIterator[Service]:
    """The running service: ready to serve when entered, drained when left. With a spill, it takes webhooks at once even
    while the database is away, and is whole once that answers.

    Raises ConfigurationError or DatabaseError, with the remedy, when the configuration does not allow it to run.
    """
    metrics = Metrics()
    keeper = keep_connections(settings, metrics, connection_limits)
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(open_stream(settings)) if settings.spill_url else None
        if stream is not None:
            metrics.spill_reachable.set_function(lambda: stream.is_ready)
        open_whole = partial(_open_whole, settings, database_url, backlog_limits, metrics, keeper, stream)
        if stream is not None and await is_database_away(database_url):
            opening = open_without_database(settings, database_url, stream, metrics, keeper, backlog_limits, open_whole)
        else:
            opening = open_whole(None)
        yield await stack.enter_async_context(opening)


@asynccontextmanager
async def _open_whole(
    settings: Settings,
    database_url: str,
    backlog_limits: BacklogLimits,
    metrics: Metrics,
    keeper: ConnectionKeeper,
    stream: Stream | None,
    first_ended: asyncio.Event | None,
) -> AsyncIterator[Service]:
    """The whole service. ``first_ended``: where another one took webhooks before, set once that has put its last group
    into the stream."""
    targets = load_targets(settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file)
    regions = find_regions(targets, settings.default_region)
    opt_outs = load_opt_outs(settings.targets_file)
    kinds = load_kinds(settings.targets_file, regions)
    async with run_traces(is_enabled=settings.traces), AsyncExitStack() as stack:
        await prepare_schema(database_url, may_migrate=settings.migrate_on_start)
        database = await stack.enter_async_context(
            open_database(database_url, allow_unsafe=settings.allow_unsafe_database)
        )
        describe_replica(database, metrics, settings.runbook_url)
        client = None
        if settings.formant_api_key:
            http = await stack.enter_async_context(open_http(settings.formant_base_url, settings.formant_api_key))
            client = FormantClient(http, metrics)
        else:
            logger.warning("uploads_disabled", setting="FORMANT_API_KEY")
        keys = await open_keys(database, settings)
        sessions, pages = await open_console(stack, settings, database, keys, metrics)
        decoder = await open_decoder(database, settings.ref_column, regions, kinds)
        new_writer = partial(open_writer, stack, database, metrics, opt_outs)
        write, is_away, spill_tasks = await open_spill(
            stack, stream, first_ended, database, targets, decoder, new_writer, metrics
        )
        committer = Committer(write, metrics, hold_seconds=backlog_limits.hold_seconds)
        replayer = Replayer(
            database,
            targets,
            decoder,
            new_writer(),
            max_body_bytes=settings.max_body_bytes,
        )
        finder = UploadFinder(database, client, regions)
        uploader = Uploader(
            database,
            Sender(database, client, finder) if client else None,
            ref_column=settings.ref_column,
            regions=regions,
        )
        registrar = Registrar(database, regions)
        discoverer = Discoverer(database, client, registrar, metrics, interval_seconds=settings.reconcile_seconds * 2)
        reconciler = on_demand = None
        if settings.formant_api_key:
            reconciler = build_reconciler(settings, database, http, metrics, new_writer(), regions)
            on_demand = OnDemand(reconciler)
            stack.push_async_callback(on_demand.close)
        alarms = AlarmWatch(database, metrics, settings.runbook_url)
        answers = AnswerRecorder(database, metrics.webhooks.counts)
        retention = Retention(database, metrics, settings.keep_days)
        eraser, consumers = Eraser(database), Consumers(database)
        feed_watch = FeedWatch(database, metrics)

        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "keys": keys.run,
            "sessions": sessions.run,
            "partitions": partial(make_partitions, database),
            "leftovers": partial(every, SWEEP_SECONDS, remove_leftovers, "maintenance_failed"),
            "repair": Repairer(database, decoder).run,
            "rule_sweep": RuleSweep(database, decoder, kinds).run,
            "upload_recovery": UploadRecovery(database, finder).run,
            "registration": registrar.run,
            "phone_repair": PhoneRepair(database, regions, registrar).run,
            "goals": GoalCounter(database).run,
            "callbacks": CallbackSettings(database).run,
            "alarms": alarms.run,
            "webhook_answers": answers.run,
            "erasure": eraser.run,
            "retention": retention.run,
            "feed": feed_watch.run,
            "feed_lag": LagWatch(consumers, metrics).run,
            "progress": ProgressWatch(database, metrics).run,
            "loop_lag": LoopLag(metrics).run,
            **spill_tasks,
        }
        if reconciler is not None and settings.reconcile_seconds:
            tasks |= {
                "discovery": discoverer.run,
                "reconciliation": reconciler.run,
                "promotion": Promoter(database, uploader).run,
            }
        background = await stack.enter_async_context(open_background(metrics))
        await stack.enter_async_context(run_committer(background, committer))
        for name, run in tasks.items():
            background.start(name, run)

        receiver = Receiver(
            targets,
            decoder,
            committer,
            Backlog(metrics, backlog_limits),
            metrics,
            max_body_bytes=settings.max_body_bytes,
        )
        filter_reader = FilterReader(database, regions)
        callbacks = Callbacks(database)
        exporter = Exporter(database, max_exports=settings.max_exports)
        batches = Batches(database, Slicer(database), default_time_zone=settings.time_zone)
        routes = build_routes(
            Authenticator(keys),
            DownloadLog(database),
            receiver,
            batches,
            Registrations(batches, discoverer, registrar),
            Uploads(uploader, DryRuns(database, uploader.checker)),
            Suppressions(SuppressionList(database), regions),
            UploadStates(database, Resolver(database, client, regions)),
            Agents(database),
            Goals(database),
            Recipients(database, filter_reader, default_time_zone=settings.time_zone),
            CallbackSettingsCalls(database, callbacks, default_time_zone=settings.time_zone),
            CallbackList(callbacks, default_time_zone=settings.time_zone),
            CallbackExports(
                exporter, metrics, max_seconds=settings.export_seconds, default_time_zone=settings.time_zone
            ),
            Exports(
                exporter,
                metrics,
                filter_reader,
                max_seconds=settings.export_seconds,
                default_time_zone=settings.time_zone,
            ),
            Bi(database),
            OutcomeGroups(database, default_time_zone=settings.time_zone),
            Comparisons(database, default_time_zone=settings.time_zone),
            Overview(database, alarms.refresh, default_time_zone=settings.time_zone),
            Events(database, replayer),
            Assignments(database),
            QuarantinedBodies(database, replayer),
            WebhookAnswers(answers),
            Calls(database, kinds, default_time_zone=settings.time_zone),
            open_health(stack, database, metrics, background, stream, is_away),
            Reconciliation(database, on_demand),
            BudgetView(database, find_account(settings)),
            Alarms(alarms),
            Doctor(settings, database_url),
            ApiKeys(Keys(database)),
            ConsoleSessions(sessions),
            Audit(database),
            Erasures(eraser, region=regions.sole),
            PeopleCalls(People(database), region=regions.sole),
            RetentionSettings(retention),
            Feed(database, consumers, feed_watch),
            pages=pages,
        )
        yield Service(Front(receiver, routes, metrics), keeper, feed_watch.end_waits)


@asynccontextmanager
async def run_committer(background: Background, committer: Committer) -> AsyncIterator[None]:
    """Runs the committer while the block lasts, then commits what is left."""
    task = background.start(COMMITTER, committer.run)
    try:
        yield
    finally:
        committer.drain()
        await task


async def make_partitions(database: Database) -> None:
    """Creates the partitions of bodies ahead of time, until it is cancelled."""
    make = database.queries.create_body_partitions
    await every(MAINTENANCE_SECONDS, lambda: make(database.pool), "maintenance_failed")


def describe_replica(database: Database, metrics: Metrics, runbook_url: str) -> None:
    """Sets the metrics of this process: its version, its runbook and its database connections."""
    metrics.build_info.labels(version("formant-outcomes"), read_migrations()[-1].name.partition("_")[0]).set(1)
    if runbook_url:
        metrics.runbook_info.labels(runbook_url).set(1)
    pool = database.pool
    metrics.database_connections.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    metrics.database_connections.labels("idle").set_function(pool.get_idle_size)
    metrics.database_connections_max.set(pool.get_max_size())


def keep_connections(settings: Settings, metrics: Metrics, limits: ConnectionLimits) -> ConnectionKeeper:
    """Builds the keeper, which keeps the server's connections within their limits and counts them."""
    keeper = ConnectionKeeper(replace(limits, connections=settings.max_connections), metrics.connections_cut.counts)
    metrics.connections.read = keeper.count_stages
    return keeper


def find_account(settings: Settings) -> str | None:
    """The account whose calls to the provider are counted; None without a key."""
    return name_account(settings.formant_base_url, settings.formant_api_key) if settings.formant_api_key else None


def open_writer(stack: AsyncExitStack, database: Database, metrics: Metrics, opt_outs: OptOuts) -> Writer:
    """A writer with its own connection, closed when ``stack`` exits."""
    writer = Writer(database.url, database.queries, metrics, opt_outs)
    stack.callback(writer.close)
    return writer


def open_health(
    stack: AsyncExitStack,
    database: Database,
    metrics: Metrics,
    background: Background,
    stream: Stream | None,
    is_away: Callable[[], bool],
) -> Health:
    """The probes, with a connection of their own, closed when ``stack`` exits."""

    def can_spill() -> bool:
        return stream is not None and stream.is_ready

    health = Health(database.url, metrics, background.stopped, can_spill, is_away)
    stack.callback(health.close)
    return health


async def open_keys(database: Database, settings: Settings) -> KeyRing:
    """The keys, read once."""
    keys = KeyRing(database, settings.api_key)
    await keys.refresh()
    if keys.is_empty:
        logger.warning("api_closed", setting="OUTCOMES_API_KEY")
    return keys


async def open_console(
    stack: AsyncExitStack, settings: Settings, database: Database, keys: KeyRing, metrics: Metrics
) -> tuple[Sessions, Callable[[list[Operation]], list[Route]]]:
    """The console's sessions, and what makes its routes from the API's operations, until ``stack`` exits."""
    configuration, oidc = read_oidc(settings), None
    if configuration is not None:
        oidc = Oidc(configuration, await stack.enter_async_context(open_provider_http()))
    sessions = Sessions(
        database,
        keys,
        idle_seconds=settings.session_idle_seconds,
        absolute_seconds=settings.session_seconds,
        issuer=settings.oidc_issuer,
    )
    protection, renderer = Protection(settings.public_url), Renderer(settings.time_zone)
    sign_in = SignIn(sessions, oidc, protection, renderer.render, metrics)
    return sessions, partial(build_console, sign_in, protection, renderer, default_zone=settings.time_zone)


def build_reconciler(
    settings: Settings,
    database: Database,
    http: httpx.AsyncClient,
    metrics: Metrics,
    writer: Writer,
    regions: Regions,
) -> Reconciler:
    """Builds the reconciler, on the budget that all replicas share."""
    account = name_account(settings.formant_base_url, settings.formant_api_key)
    return Reconciler(
        database,
        http,
        metrics,
        Budget(database, account, longest_wait_seconds=120.0),
        Budget(database, account, reserved=0.0, longest_wait_seconds=120.0),
        Healer(database, writer, metrics, lambda: datetime.now(UTC), regions),
        grace_seconds=settings.grace_seconds,
        interval_seconds=settings.reconcile_seconds or DEFAULT_INTERVAL_SECONDS,
        stuck_seconds=settings.stuck_seconds,
    )
