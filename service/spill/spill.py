"""The spill as a whole: built by ``app.py`` where OUTCOMES_SPILL_URL is set."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from service.errors import ConfigurationError
from service.formant.events import EventDecoder
from service.formant.targets import Target
from service.settings import Settings
from service.spill.drain import Drainer
from service.spill.stream import Stream
from service.spill.writer import Group, SpillWriter, probe_database
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer

logger = structlog.get_logger()

START_SECONDS = 5.0
"""How long a start waits for the stream. Without it the service runs as without a spill until the stream answers."""


Write = Callable[[Group], Awaitable[None]]
Tasks = dict[str, Callable[[], Awaitable[None]]]


async def open_spill(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    targets: Mapping[str, Target],
    decoder: EventDecoder,
    new_writer: Callable[[], Writer],
    metrics: Metrics,
) -> tuple[Write, Tasks]:
    """What writes the groups of webhooks, and the tasks that this needs, by name, until ``stack`` exits. Without
    servers to spill to, that is a plain writer.

    Raises ConfigurationError, with the remedy, when these servers may lose what they acknowledge.
    """
    live = new_writer()
    if not settings.spill_servers:
        return live.write, {}
    stream = await stack.enter_async_context(_open_stream(settings))
    writer = SpillWriter(live.write, stream, _permit, partial(probe_database, database.url), metrics)
    drainer = Drainer(database, stream, targets, decoder, new_writer(), metrics)
    return writer.write, {"spill_probe": writer.run, "spill_drain": drainer.run}


async def _permit() -> None:
    return


@asynccontextmanager
async def _open_stream(settings: Settings) -> AsyncIterator[Stream]:
    """The stream while the block lasts, connected if it answers soon."""
    stream = Stream(
        list(settings.spill_servers), max_body_bytes=settings.max_body_bytes, allow_unsafe=settings.allow_unsafe_spill
    )
    connecting = asyncio.create_task(stream.open())
    try:
        done, _ = await asyncio.wait({connecting}, timeout=START_SECONDS)
        if done:
            connecting.result()
        else:
            logger.warning("spill_unreachable", setting="OUTCOMES_SPILL_URL")
            connecting.add_done_callback(_report)
        yield stream
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await stream.close()


def _report(connecting: asyncio.Task[None]) -> None:
    """Logs how a late connection ended."""
    if connecting.cancelled():
        return
    error = connecting.exception()
    if error is None:
        logger.info("spill_connected")
    elif isinstance(error, ConfigurationError):
        logger.error("spill_refused", reason=str(error))
    else:
        logger.error("spill_refused", exc_info=error)
