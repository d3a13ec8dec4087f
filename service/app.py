"""Puts the service together: what lives as long as it does, and the routes. Nothing else knows all the parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

import asyncpg
import httpx
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.keyring import KeyRing
from service.batches.contracts import ColumnContracts
from service.batches.discovery import Discoverer
from service.batches.leftovers import remove_leftovers
from service.batches.lookup import UploadFinder, UploadRecovery
from service.batches.promotion import Promoter
from service.batches.registration import Registrar
from service.batches.sending import Sender
from service.batches.uploads import Uploader
from service.errors import ApiError, DatabaseError
from service.formant.client import FormantClient, open_http
from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.ledger.backlog import Backlog, Limits
from service.ledger.committer import Committer
from service.ledger.quarantine import Replayer
from service.ledger.writer import Writer
from service.metrics import Metrics
from service.outcomes.consumers import Consumers, LagWatch
from service.outcomes.exports import Exporter
from service.outcomes.feed_watch import FeedWatch
from service.outcomes.slices import Slicer
from service.privacy.erasure import Eraser
from service.privacy.retention import Retention
from service.reconcile.alarms import AlarmWatch
from service.reconcile.budget import Budget, name_account
from service.reconcile.healer import Healer
from service.reconcile.progress import ProgressWatch
from service.reconcile.reconciler import Reconciler
from service.settings import Settings
from service.store.database import Database, connect, open_database
from service.store.migrations import check_schema, migrate, read_migrations
from service.tracing import run_traces
from service.web.across import Across
from service.web.agents import Agents
from service.web.alarms import Alarms
from service.web.audit import Audit
from service.web.auth import Authenticator
from service.web.batches import Batches
from service.web.documentation import Documentation
from service.web.elsewhere import Elsewhere
from service.web.erasures import Erasures
from service.web.events import Events
from service.web.exports import Exports
from service.web.feed import Feed
from service.web.health import Health
from service.web.loop_lag import LoopLag
from service.web.operations import Operation, to_route
from service.web.problems import (
    UNREACHABLE,
    answer_api_error,
    answer_failure,
    answer_http_exception,
    answer_unavailable,
)
from service.web.receiver import PATH as WEBHOOK_PATH
from service.web.receiver import Receiver
from service.web.recipients import Recipients
from service.web.reconciliation import Reconciliation
from service.web.requests import Requests
from service.web.uploads import Uploads

logger = structlog.get_logger()

MAINTENANCE_SECONDS = 3600
DEFAULT_INTERVAL_SECONDS = 30
DEFAULT_LIMITS = Limits()


async def prepare_schema(url: str, *, may_migrate: bool) -> None:
    """Migrates the schema, or only checks that it fits; raises DatabaseError with the remedy when it does not.

    This is the first that a start asks of the database, so it is also here that a wrong address is told.
    """
    try:
        connection = await connect(url, statement_seconds=None)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
        # The driver's own words may quote the address, which holds a password; the system's and the server's do not.
        is_quotable = isinstance(error, (OSError, asyncpg.PostgresError))
        reason = next(iter(str(error).splitlines()), "") if is_quotable else ""
        raise DatabaseError(
            f"The database does not answer ({reason or type(error).__name__}): "
            "check OUTCOMES_DATABASE_URL, and that Postgres runs"
        ) from error
    try:
        if may_migrate:
            await migrate(connection)
        else:
            await check_schema(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def open_app(settings: Settings, database_url: str, limits: Limits = DEFAULT_LIMITS) -> AsyncIterator["Front"]:
    """The running service as an ASGI application: ready to serve when entered, drained when left.

    Raises ConfigurationError or DatabaseError, with the remedy, when it must not run as it is set up.
    """
    targets = load_targets(settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file)
    metrics = Metrics()
    async with run_traces(asked=settings.traces), AsyncExitStack() as stack:
        await prepare_schema(database_url, may_migrate=settings.migrate_on_start)
        database = await stack.enter_async_context(
            open_database(
                database_url,
                allow_unsafe=settings.allow_unsafe_database,
                statement_seconds=limits.statement_seconds,
            )
        )
        client = None
        if settings.formant_api_key:
            http = await stack.enter_async_context(open_http(settings.formant_base_url, settings.formant_api_key))
            client = FormantClient(http, metrics)
        else:
            logger.warning("uploads_disabled", setting="FORMANT_API_KEY")
        keys = await stack.enter_async_context(_run_keys(database, settings.api_key))
        decoder = EventDecoder(settings.ref_column)
        writer = Writer(database_url, database.queries, metrics)
        replay_writer = Writer(database_url, database.queries, metrics)
        stack.callback(writer.close)
        stack.callback(replay_writer.close)
        registration_writer = Writer(database_url, database.queries, metrics)
        stack.callback(registration_writer.close)
        committer = Committer(writer.write, metrics, hold_seconds=limits.hold_seconds)
        finder = UploadFinder(database, client)
        uploader = Uploader(
            database,
            ColumnContracts(database),
            Sender(database, client, finder) if client else None,
            ref_column=settings.ref_column,
            default_region=settings.default_region,
        )
        reconciler = None
        if settings.formant_api_key:
            healing_writer = Writer(database_url, database.queries, metrics)
            stack.callback(healing_writer.close)
            reconciler = build_reconciler(settings, database, http, metrics, healing_writer)
        await stack.enter_async_context(_run_committer(committer))
        await stack.enter_async_context(_run_beside(_maintain(database)))
        await stack.enter_async_context(_run_beside(UploadRecovery(database, finder).run()))
        registrar = Registrar(database, targets, decoder, registration_writer, default_region=settings.default_region)
        discoverer = Discoverer(database, client, registrar, interval_seconds=settings.reconcile_seconds * 2)
        if reconciler is not None and settings.reconcile_seconds:
            await stack.enter_async_context(_run_beside(discoverer.run()))
            await stack.enter_async_context(_run_beside(reconciler.run()))
            await stack.enter_async_context(_run_beside(Promoter(database, uploader).run()))
        watch = AlarmWatch(database, metrics)
        await stack.enter_async_context(_run_beside(watch.run()))
        eraser = await stack.enter_async_context(_run_privacy(database, metrics, settings))
        consumers = Consumers(database)
        feed_watch = FeedWatch(database, metrics, max_waiters=limits.feed_waiters)
        await stack.enter_async_context(_run_beside(feed_watch.run()))
        await stack.enter_async_context(_run_looks(database, consumers, metrics))
        authenticator = Authenticator(keys)
        receiver = Receiver(
            targets, decoder, committer, Backlog(metrics, limits), metrics, max_body_bytes=settings.max_body_bytes
        )
        batches = Batches(database, Slicer(database), default_time_zone=settings.time_zone)
        routes = build_routes(
            authenticator,
            receiver,
            batches,
            Elsewhere(batches, discoverer, registrar),
            Uploads(database, uploader, finder),
            Agents(database),
            Recipients(database),
            Exports(Exporter(database, max_exports=settings.max_exports), metrics, max_seconds=settings.export_seconds),
            Across(database, default_time_zone=settings.time_zone),
            Events(database, Replayer(database, targets, decoder, replay_writer)),
            Health(database, metrics),
            Reconciliation(database, reconciler),
            Alarms(watch),
            Audit(database),
            Erasures(eraser, default_region=settings.default_region),
            Feed(database, consumers, feed_watch),
        )
        yield Front(receiver, routes, metrics, feed_watch.end_waits)


class Front:
    """Sends webhooks straight to the receiver, and everything else through Starlette: routing would cost the hot path
    a fifth of its time. ``end_waits`` answers the readers that only wait for something to happen; whoever stops the
    service calls it, so that they do not hold it up."""

    def __init__(self, receiver: ASGIApp, routes: ASGIApp, metrics: Metrics, end_waits: Callable[[], None]) -> None:
        self._receiver = receiver
        self._routes = routes
        self._requests = Requests(routes, metrics)
        self.end_waits = end_waits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        is_webhook = path.startswith(WEBHOOK_PATH) and path[len(WEBHOOK_PATH) :][:1] in {"", "/"}
        await (self._receiver if is_webhook else self._requests)(scope, receive, send)


def build_reconciler(
    settings: Settings, database: Database, http: httpx.AsyncClient, metrics: Metrics, writer: Writer
) -> Reconciler:
    """The loop, on the budget that all replicas share."""
    account = name_account(settings.formant_base_url, settings.formant_api_key)
    return Reconciler(
        database,
        http,
        metrics,
        Budget(database, account, longest_wait_seconds=120.0),
        Budget(database, account, reserved=0.0, longest_wait_seconds=30.0),
        Healer(database, writer, metrics, lambda: datetime.now(UTC)),
        grace_seconds=settings.grace_seconds,
        interval_seconds=settings.reconcile_seconds or DEFAULT_INTERVAL_SECONDS,
    )


class Handlers(Protocol):
    """A group of handlers that knows its own operations."""

    def operations(self) -> list[Operation]: ...


def build_routes(authenticator: Authenticator, receiver: Handlers, *groups: Handlers) -> Starlette:
    """Everything but the receiver, which is only documented here."""
    operations = [operation for group in groups for operation in group.operations()]
    documentation = Documentation([*receiver.operations(), *operations])
    operations += documentation.operations()
    routes = Starlette(
        routes=[to_route(operation, authenticator) for operation in operations],
        exception_handlers={
            ApiError: answer_api_error,
            **dict.fromkeys(UNREACHABLE, answer_unavailable),
            HTTPException: answer_http_exception,
            Exception: answer_failure,
        },
    )
    routes.state.operations = operations
    return routes


@asynccontextmanager
async def _run_keys(database: Database, api_key: str) -> AsyncIterator[KeyRing]:
    keys = KeyRing(database, api_key)
    await keys.refresh()
    if keys.is_empty:
        logger.warning("api_closed", setting="OUTCOMES_API_KEY")
    async with _run_beside(keys.run()):
        yield keys


@asynccontextmanager
async def _run_privacy(database: Database, metrics: Metrics, settings: Settings) -> AsyncIterator[Eraser]:
    eraser = Eraser(database)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_run_beside(eraser.run()))
        if any(settings.keep_days.values()):
            await stack.enter_async_context(_run_beside(Retention(database, metrics, settings.keep_days).run()))
        yield eraser


@asynccontextmanager
async def _run_looks(database: Database, consumers: Consumers, metrics: Metrics) -> AsyncIterator[None]:
    """Keeps the metrics up to date that nobody else does, for as long as the block lasts."""
    metrics.build_info.labels(version("formant-outcomes"), read_migrations()[-1].name.partition("_")[0]).set(1)
    pool = database.pool
    metrics.database_connections.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    metrics.database_connections.labels("idle").set_function(pool.get_idle_size)
    metrics.database_connections_max.set(pool.get_max_size())
    async with (
        _run_beside(LagWatch(consumers, metrics).run()),
        _run_beside(ProgressWatch(database, metrics).run()),
        _run_beside(LoopLag(metrics).run()),
    ):
        yield


@asynccontextmanager
async def _run_committer(committer: Committer) -> AsyncIterator[None]:
    task = asyncio.create_task(committer.run())
    try:
        yield
    finally:
        committer.drain()
        await task


@asynccontextmanager
async def _run_beside(running: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs what goes on for ever, for as long as the block lasts."""
    task = asyncio.create_task(running)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _maintain(database: Database) -> None:
    """What has to be looked after now and then; a failure is told, and tried again the next time."""
    while True:
        try:
            await database.queries.create_body_partitions(database.pool)
            await remove_leftovers()
        except Exception:
            logger.warning("maintenance_failed", exc_info=True)
        await asyncio.sleep(MAINTENANCE_SECONDS)
