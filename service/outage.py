"""Starts the service while Postgres is away, where a spill is configured.

Until Postgres answers, webhooks go to the stream, and everything else is answered 503. Then the whole service takes
over on the same listener. This needs nothing of the database: what waits in the stream are the raw bodies, and they are
decoded again when they are drained.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.background import open_background
from service.errors import OutcomesError, UnavailableError
from service.formant.events import EventDecoder
from service.formant.targets import find_regions, load_kinds, load_targets
from service.front import Front
from service.health import COMMITTER, State, answer_degraded, answer_metrics
from service.server.limits import ConnectionKeeper
from service.server.process import Service
from service.settings import Settings
from service.spill.stream import Stream
from service.spill.writer import AWAY, spill_group
from service.store.database import connect
from service.telemetry.metrics import Metrics
from service.web.middleware import METHODS
from service.web.problems import answer_api_error
from service.web.responses import JsonResponse
from service.webhooks.backlog import Backlog, BacklogLimits
from service.webhooks.committer import Committer
from service.webhooks.receiver import RETRY_AFTER_SECONDS, Receiver

logger = structlog.get_logger()

CONNECT_SECONDS = 3.0
RETRY_SECONDS = 1.0
REFUSED_SECONDS = 10.0
"""How long to wait after a start that was refused: its reason has to be corrected first."""

OpenWhole = Callable[[asyncio.Event | None], AbstractAsyncContextManager[Service]]
"""Opens the whole service. The event is set once nothing from before goes to the stream any more."""


async def is_database_away(url: str) -> bool:
    """Whether Postgres does not take writes now, for a reason that may pass. Any other reason is for the start to
    explain: it uses the database too."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await connect(url)
    except AWAY:
        return True
    except Exception as error:
        logger.info("database_refuses", reason=type(error).__name__)
    else:
        connection.terminate()
    return False


@asynccontextmanager
async def open_without_database(
    settings: Settings,
    database_url: str,
    stream: Stream,
    metrics: Metrics,
    keeper: ConnectionKeeper,
    limits: BacklogLimits,
    open_whole: OpenWhole,
) -> AsyncIterator[Service]:
    """A service that takes webhooks, and becomes the whole service once Postgres answers."""
    logger.warning("started_without_database")
    targets = load_targets(settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file)
    regions = find_regions(targets, settings.default_region)
    decoder = EventDecoder(settings.ref_column, regions, load_kinds(settings.targets_file, regions))
    committer = Committer(partial(spill_group, stream, metrics), metrics, hold_seconds=limits.hold_seconds)
    receiver = Receiver(
        targets, decoder, committer, Backlog(metrics, limits), metrics, max_body_bytes=settings.max_body_bytes
    )
    waiting = _Waiting(stream, metrics)
    succession = _Succession(Front(receiver, waiting.routes(), metrics))
    async with open_background(metrics) as background:
        committing = background.start(COMMITTER, committer.run)

        async def end_committing() -> None:
            committer.drain()
            await committing

        succeeding = asyncio.create_task(succession.run(database_url, open_whole, end_committing))
        try:
            yield Service(succession, keeper, succession.end_waits)
        finally:
            await end_committing()
            succession.is_over.set()
            if not succession.has_succeeded:
                succeeding.cancel()
            await asyncio.gather(succeeding, return_exceptions=True)


class _Succession:
    """The application that the server calls: that of the first service, then of the whole one."""

    def __init__(self, first: ASGIApp) -> None:
        self._app = self._first = first
        self._inside = 0
        self._left = asyncio.Event()
        self._end_waits: Callable[[], None] = lambda: None
        self._cause: str | None = None
        self.has_succeeded = False
        self.is_over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is not self._first:
            await self._app(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._first(scope, receive, send)
        finally:
            self._inside -= 1
            if self.has_succeeded and not self._inside:
                self._left.set()

    def end_waits(self) -> None:
        """Answers the requests that wait for an event."""
        self._end_waits()

    async def run(self, database_url: str, open_whole: OpenWhole, end_first: Callable[[], Awaitable[None]]) -> None:
        """Waits for Postgres, opens the whole service, and keeps it until ``is_over``."""
        while True:
            wait = RETRY_SECONDS
            try:
                if not await is_database_away(database_url):
                    await self._succeed(open_whole, end_first)
                    return
            except Exception as error:
                self._note_failure(error)
                if self.has_succeeded:
                    raise
                wait = RETRY_SECONDS if isinstance(error, AWAY) else REFUSED_SECONDS
            await asyncio.sleep(wait)

    def _note_failure(self, error: Exception) -> None:
        """Logs why the whole service is not open, once for each cause in a row."""
        cause = str(error) if isinstance(error, OutcomesError) else type(error).__name__
        if cause == self._cause:
            return
        self._cause = cause
        if isinstance(error, OutcomesError):
            logger.error("start_refused", reason=cause)
        else:
            logger.error("start_failed", exc_info=error)

    async def _succeed(self, open_whole: OpenWhole, end_first: Callable[[], Awaitable[None]]) -> None:
        ended = asyncio.Event()
        async with open_whole(ended) as whole:
            self._app, self._end_waits, self.has_succeeded = whole.app, whole.end_waits, True
            if self._inside:
                await self._left.wait()
            await end_first()
            ended.set()
            logger.info("database_back")
            await self.is_over.wait()


class _Waiting:
    """What is answered besides webhooks while Postgres is away."""

    def __init__(self, stream: Stream, metrics: Metrics) -> None:
        self._stream = stream
        self._metrics = metrics

    def routes(self) -> Starlette:
        """The probes; everything else is 503."""
        return Starlette(
            routes=[
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/metrics", self._expose_metrics),
                Route("/{path:path}", self._refuse, methods=sorted(METHODS)),
            ],
            exception_handlers={UnavailableError: answer_api_error},
        )

    async def _alive(self, request: Request) -> Response:
        return JsonResponse(State("ok"))

    async def _ready(self, request: Request) -> Response:
        return answer_degraded("the database does not answer", can_spill=self._stream.is_ready)

    async def _expose_metrics(self, request: Request) -> Response:
        return answer_metrics(self._metrics)

    async def _refuse(self, request: Request) -> Response:
        raise UnavailableError(
            "The database does not answer; webhooks are taken meanwhile", retry_after=RETRY_AFTER_SECONDS
        )
