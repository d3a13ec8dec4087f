"""Health: liveness, readiness and metrics. No key is needed, since probes have none."""

import asyncio
import time
from collections.abc import Callable, Set

import asyncpg
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from service.store.database import connect, load_queries, note_server
from service.telemetry.metrics import Metrics
from service.web.operations import RETRY_AFTER, Answer, Operation
from service.web.responses import JsonResponse

logger = structlog.get_logger()

COMMITTER = "committer"
"""The task without which no webhook is stored."""
READY_SECONDS = 1.5
"""How long Postgres has to answer: a probe gives up soon after."""
LOCK_TIMEOUT = "1s"
"""How long readiness waits for the ingest lock: far longer than it takes in a busy service."""
CACHE_SECONDS = 1.0


class State(msgspec.Struct):
    """The state of the service."""

    status: str


class Health:
    """Answers probes. Readiness makes a real commit and takes the ingest lock, on a connection of its own: the pool
    does not give up one that has fallen silent. The result is cached for a second, so probes cause no load.

    ``can_spill`` is whether the spill stream takes webhooks, ``is_away`` whether they go there now.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        stopped: Set[str],
        can_spill: Callable[[], bool] = lambda: False,
        is_away: Callable[[], bool] = lambda: False,
    ) -> None:
        self._can_spill = can_spill
        self._is_away = is_away
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self._metrics = metrics
        self._stopped = stopped
        self._checked: tuple[float, str | None] = (float("-inf"), None)
        self._turn = asyncio.Lock()

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/healthz", self.alive, None, "Operation",
                parameters=(),
                answers=(Answer(State, "The process answers"),),
                is_tolerant=True,
            ),
            Operation(
                "GET", "/readyz", self.ready, None, "Operation",
                parameters=(),
                answers=(
                    Answer(State, "It can commit, or it is `degraded`"),
                    Answer(State, "Not ready", 503, headers=(RETRY_AFTER,)),
                ),
                is_tolerant=True,
            ),
            Operation(
                "GET", "/metrics", self.expose_metrics, None, "Operation",
                parameters=(),
                answers=(Answer(str, "In Prometheus' text format", media_type="text/plain"),),
                is_tolerant=True,
            ),
        ]  # fmt: skip

    async def alive(self, request: Request) -> Response:
        """200 as long as the process answers."""
        return JsonResponse(State("ok"))

    async def ready(self, request: Request) -> Response:
        """200 when a commit has just succeeded and the ingest lock is free, or `degraded` while webhooks can go to the
        spill stream; else 503."""
        if COMMITTER in self._stopped:
            obstacle = "webhooks cannot be stored: the task that commits them has died and restarts soon"
            return answer_degraded(obstacle, can_spill=False)
        if self._is_away() and self._can_spill():
            return answer_degraded("the database does not take webhooks", can_spill=True)
        async with self._turn:
            if time.monotonic() - self._checked[0] > CACHE_SECONDS:
                found = await self._find_obstacle()
                self._checked = (time.monotonic(), found)
        if self._checked[1] is None:
            return JsonResponse(State("ready"))
        return answer_degraded(self._checked[1], can_spill=self._can_spill())

    async def expose_metrics(self, request: Request) -> Response:
        """All metrics in Prometheus' text format."""
        return answer_metrics(self._metrics)

    def close(self) -> None:
        """Drops the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _find_obstacle(self) -> str | None:
        """What keeps webhooks from being stored, as text; None when nothing does. The lock is released before the
        heartbeat commits, so webhooks do not wait for the probe's write."""
        queries = load_queries()
        try:
            async with asyncio.timeout(READY_SECONDS):
                connection = await self._connect()
                await queries.prove_ingest(connection, timeout=LOCK_TIMEOUT)
                await queries.commit_heartbeat(connection)
        except asyncpg.LockNotAvailableError:
            logger.warning("not_ready", reason="ingest_lock")
            return f"webhooks cannot be stored: another session has held the ingest lock for {LOCK_TIMEOUT}"
        except Exception:
            self.close()  # it may have fallen silent
            logger.warning("not_ready", exc_info=True)
            return "the database does not commit"
        except BaseException:
            self.close()
            raise
        return None

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url)
            await note_server(self._connection)
        return self._connection


def answer_degraded(obstacle: str, *, can_spill: bool) -> Response:
    """The readiness of a service that cannot commit: it takes webhooks nevertheless where it can spill them."""
    if can_spill:
        return JsonResponse(State("degraded"))
    return JsonResponse(State(obstacle), status_code=503, headers={"retry-after": "5"})


def answer_metrics(metrics: Metrics) -> Response:
    """All metrics in Prometheus' text format."""
    return Response(metrics.render(), media_type="text/plain; version=0.0.4")
