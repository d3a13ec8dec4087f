"""Named consumers of the feed: the position that each has acknowledged, and its lag."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import structlog

from service.access.audit import record_audit
from service.background import every
from service.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from service.store.database import Connection, Database
from service.telemetry.context import current_actor, current_request_id
from service.telemetry.metrics import Metrics

logger = structlog.get_logger()

MAX_CONSUMERS = 100
MAX_COUNTED = 1000
"""A lag up to this is counted; a larger one is the distance between the positions."""
INTERVAL_SECONDS = 15.0
PAUSED_SECONDS = 60
"""When a paused consumer may ask again."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Consumers:
    """Reads and writes consumers. Each method that takes a name raises InvalidRequestError for an invalid name, and
    NotFoundError when there is no such consumer, unless it says otherwise."""

    def __init__(self, database: Database, *, max_consumers: int = MAX_CONSUMERS, counted: int = MAX_COUNTED) -> None:
        self._database = database
        self._max_consumers = max_consumers
        self._counted = counted

    async def list(self) -> list[asyncpg.Record]:
        """All consumers by name, each with its lag."""
        rows = self._database.queries.list_feed_consumers(self._database.pool, counted=self._counted)
        return [row async for row in rows]

    async def get(self, name: str) -> asyncpg.Record:
        """One consumer, with its lag."""
        row: asyncpg.Record | None = await self._database.queries.get_feed_consumer(
            self._database.pool, name=_check(name), counted=self._counted
        )
        if row is None:
            raise _unknown(name)
        return row

    async def get_position(self, name: str) -> int:
        """The position to continue from. Raises ConflictError when the consumer may have read entries that a restore
        removed, and UnavailableError while it is paused."""
        row = await self._database.queries.get_consumer_position(self._database.pool, name=_check(name))
        if row is None:
            raise _unknown(name)
        if row["paused_at"] is not None:
            raise UnavailableError(
                f"consumer: {name} is paused, and loses nothing: POST /v1/feed/consumers/{name}/resume lets it go on",
                retry_after=PAUSED_SECONDS,
            )
        if row["is_cut_off"]:
            raise _cut_off(name)
        position: int = row["position"]
        return position

    async def acknowledge(self, name: str, position: int, *, is_reset: bool, tag: str | None = None) -> None:
        """Records that a consumer has handled every entry up to ``position``; creates an unknown consumer. ``tag`` is
        stored in the same commit; None leaves the tag as it is.

        Raises ConflictError when the position is beyond the end of the feed or there are too many consumers. Without
        ``is_reset``, also when the consumer was further already, or may have read entries that a restore removed.
        """
        given = {"name": _check(name), "position": position, "limit": self._max_consumers, "tag": tag}
        queries, pool = self._database.queries, self._database.pool
        if is_reset:
            actor = current_actor()
            answer = await queries.reset_consumer(
                pool, **given, actor=actor.name, key_id=actor.key_id, request_id=current_request_id()
            )
        else:
            answer = await queries.acknowledge_feed(pool, **given, is_reset=False)
        match answer["refusal"]:
            case "beyond":
                raise ConflictError(
                    f"position: {position} is beyond the end of the feed ({answer['at']}): acknowledge what was read"
                )
            case "backwards":
                await self._refuse_cut_off(name)
                raise ConflictError(
                    f"position: {position} is behind {answer['at']}, which {name} has acknowledged: "
                    'send "reset": true to read again from there'
                )
            case "full":
                raise ConflictError(
                    f"There are already {self._max_consumers} consumers: DELETE one that is not needed any more"
                )

    async def pause(self, name: str) -> None:
        """Refuses reading by the consumer's name until ``resume``. Its position, and what it may acknowledge, stay."""
        await self._change(name, self._database.queries.pause_consumer, "consumer_paused", "paused")

    async def resume(self, name: str) -> None:
        await self._change(name, self._database.queries.resume_consumer, "consumer_resumed", "resumed")

    async def forget(self, name: str) -> None:
        await self._change(name, self._database.queries.delete_feed_consumer, "consumer_forgotten", "forgotten")

    async def count(self, after: int) -> asyncpg.Record:
        """The number of entries after a position."""
        counted: asyncpg.Record = await self._database.queries.count_feed(
            self._database.pool, after=after, counted=self._counted
        )
        return counted

    async def _change(self, name: str, change: Callable[..., Awaitable[str | None]], action: str, outcome: str) -> None:
        """Makes a change by name and records it in the audit log."""
        connection: Connection
        async with self._database.pool.acquire() as connection, connection.transaction():
            if await change(connection, name=_check(name)) is None:
                raise _unknown(name)
            await record_audit(self._database, connection, action, f"consumer {name}", outcome)

    async def _refuse_cut_off(self, name: str) -> None:
        """Raises ConflictError when the consumer may have read entries that a restore removed."""
        row = await self._database.queries.get_consumer_position(self._database.pool, name=name)
        if row is not None and row["is_cut_off"]:
            raise _cut_off(name)


class LagWatch:
    """Keeps the metrics of consumers up to date."""

    def __init__(self, consumers: Consumers, metrics: Metrics) -> None:
        self._consumers = consumers
        self._metrics = metrics
        self._reported: set[str] = set()

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.refresh, "feed_lag_not_read")

    async def refresh(self) -> None:
        """One pass. Removes the metrics of forgotten consumers."""
        lag, lag_seconds = self._metrics.feed_consumer_lag, self._metrics.feed_consumer_lag_seconds
        rows = await self._consumers.list()
        now = datetime.now(UTC)
        for row in rows:
            since = row["behind_since"]
            lag.labels(row["name"]).set(row["lag"])
            lag_seconds.labels(row["name"]).set(max(0.0, (now - since).total_seconds()) if since else 0.0)
        for name in self._reported - {row["name"] for row in rows}:
            lag.remove(name)
            lag_seconds.remove(name)
        self._reported = {row["name"] for row in rows}


def _check(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidRequestError("consumer: a name takes 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return name


def _cut_off(name: str) -> ConflictError:
    return ConflictError(
        f"consumer: this database was restored, and {name} may have read what is gone: discard what was read, "
        f'and send PUT /v1/feed/consumers/{name} with {{"position": 0, "reset": true}} to read it again'
    )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(
        f'There is no consumer {name}: PUT /v1/feed/consumers/{name} with {{"position": 0}} creates it at the snapshot'
    )
