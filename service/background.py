"""What runs beside the requests for as long as the service does: each a block that begins it, and ends it when left."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog

from service.access.keyring import KeyRing
from service.feed.consumers import Consumers, LagWatch
from service.privacy.erasure import Eraser
from service.privacy.retention import Retention
from service.reconciliation.progress import ProgressWatch
from service.settings import Settings
from service.store.database import Database
from service.store.migrations import read_migrations
from service.telemetry.loop_lag import LoopLag
from service.telemetry.metrics import Metrics
from service.webhooks.committer import Committer

logger = structlog.get_logger()

MAINTENANCE_SECONDS = 3600


@asynccontextmanager
async def run_keys(database: Database, api_key: str) -> AsyncIterator[KeyRing]:
    keys = KeyRing(database, api_key)
    await keys.refresh()
    if keys.is_empty:
        logger.warning("api_closed", setting="OUTCOMES_API_KEY")
    async with run_beside(keys.run()):
        yield keys


@asynccontextmanager
async def run_privacy(database: Database, metrics: Metrics, settings: Settings) -> AsyncIterator[Eraser]:
    eraser = Eraser(database)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(run_beside(eraser.run()))
        if any(settings.keep_days.values()):
            await stack.enter_async_context(run_beside(Retention(database, metrics, settings.keep_days).run()))
        yield eraser


@asynccontextmanager
async def run_looks(database: Database, consumers: Consumers, metrics: Metrics) -> AsyncIterator[None]:
    """Keeps the metrics up to date that nobody else does, for as long as the block lasts."""
    metrics.build_info.labels(version("formant-outcomes"), read_migrations()[-1].name.partition("_")[0]).set(1)
    pool = database.pool
    metrics.database_connections.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    metrics.database_connections.labels("idle").set_function(pool.get_idle_size)
    metrics.database_connections_max.set(pool.get_max_size())
    async with (
        run_beside(LagWatch(consumers, metrics).run()),
        run_beside(ProgressWatch(database, metrics).run()),
        run_beside(LoopLag(metrics).run()),
    ):
        yield


@asynccontextmanager
async def run_committer(committer: Committer) -> AsyncIterator[None]:
    task = asyncio.create_task(committer.run())
    try:
        yield
    finally:
        committer.drain()
        await task


@asynccontextmanager
async def run_beside(running: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs what goes on for ever, for as long as the block lasts."""
    task = asyncio.create_task(running)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def maintain(database: Database) -> None:
    """What has to be looked after now and then; a failure is told, and tried again the next time."""
    while True:
        try:
            await database.queries.create_body_partitions(database.pool)
        except Exception:
            logger.warning("maintenance_failed", exc_info=True)
        await asyncio.sleep(MAINTENANCE_SECONDS)
