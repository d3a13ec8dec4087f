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
from service.spill.state import Presence
from service.spill.stream import Stream
from service.spill.writer import Group, SpillWriter, probe_database
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer

logger = structlog.get_logger()

AGAIN_SECONDS = 5.0
START_SECONDS = 5.0
"""How long a start waits for the stream. Without it the service runs as without a spill until the stream answers."""


Write = Callable[[Group], Awaitable[None]]
Tasks = dict[str, Callable[[], Awaitable[None]]]


async def open_spill(
    stack: AsyncExitStack,
    stream: Stream | None,
    first_ended: asyncio.Event | None,
    database: Database,
    targets: Mapping[str, Target],
    decoder: EventDecoder,
    new_writer: Callable[[], Writer],
    metrics: Metrics,
) -> tuple[Write, Callable[[], bool], Tasks]:
    """What writes the groups of webhooks, whether they go to the stream now, and the tasks that this needs, by name,
    until ``stack`` exits. Without a stream, that is a plain writer. ``first_ended``: where the service started without
    Postgres, set once nothing from then goes to the stream any more.
    """
    live = new_writer()
    if stream is None:
        return live.write, lambda: False, {}
    presence = Presence(database.url, is_spilling=first_ended is not None, is_reachable=lambda: stream.is_ready)
    await presence.renew()
    stack.push_async_callback(presence.end)
    writer = SpillWriter(live.write, stream, presence, partial(probe_database, database.url), metrics, first_ended)
    drainer = Drainer(database, stream, targets, decoder, new_writer(), metrics, writer.is_away)
    tasks: Tasks = {"spill_presence": presence.run, "spill_probe": writer.run, "spill_drain": drainer.run}
    return writer.write, writer.is_away, tasks


@asynccontextmanager
async def open_stream(settings: Settings) -> AsyncIterator[Stream]:
    """The stream while the block lasts, connected if it answers soon.

    Raises ConfigurationError, with the remedy, when its servers may lose what they acknowledge.
    """
    stream = Stream(
        settings.spill_url.split(","), max_body_bytes=settings.max_body_bytes, allow_unsafe=settings.allow_unsafe_spill
    )
    opening = asyncio.create_task(stream.open())
    keeping = None
    try:
        done, _ = await asyncio.wait({opening}, timeout=START_SECONDS)
        if done:
            opening.result()
        else:
            logger.warning("spill_unreachable", setting="OUTCOMES_SPILL_URL")
        keeping = asyncio.create_task(_keep_open(stream, opening))
        yield stream
    finally:
        tasks = [task for task in (opening, keeping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stream.close()


async def _keep_open(stream: Stream, opening: asyncio.Task[None]) -> None:
    """Opens the stream again whenever its client has given up, or its settings were refused."""
    while True:
        try:
            await opening
            await stream.keep_checked()
            logger.warning("spill_closed")
        except ConfigurationError as error:
            logger.error("spill_refused", reason=str(error))
        except Exception:
            logger.error("spill_refused", exc_info=True)
        await asyncio.sleep(AGAIN_SECONDS)
        opening = asyncio.create_task(stream.open())
