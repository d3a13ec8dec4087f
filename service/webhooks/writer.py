"""Writes groups on a connection of its own: readable events through ``ingest``, the others into quarantine.

An error that lies in the data is bisected down to the event that caused it, which goes to quarantine; its neighbours
commit. Any other error is the database's, not an event's: it is raised, and the caller tries the group again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import structlog

from service.errors import CommitInDoubtError
from service.formant.events import Event, Unreadable, to_unreadable
from service.phones.bodies import find_numbers
from service.phones.written import E164
from service.store.database import connect, note_server
from service.telemetry.logs import LineLimit
from service.telemetry.metrics import Metrics
from service.webhooks.committer import Item

logger = structlog.get_logger()

# Classes 22, 23 and 54 of SQLSTATE, and what the driver refuses to encode: sending the same again cannot help.
DATA_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


class Writer:
    """Holds the connection that events are committed on, and opens a new one after any failure."""

    def __init__(self, url: str, queries: Any, metrics: Metrics) -> None:
        self._url = url
        self._queries = queries
        self._metrics = metrics
        self._connection: asyncpg.Connection | None = None
        self._is_in_doubt = False
        self._lines = LineLimit("events_need_a_look")

    async def write(self, items: Sequence[Item]) -> None:
        """Commits the items. Raises when the database could not be reached or refused for a reason of its own, and
        CommitInDoubtError when it only warned: the same items may then be written again."""
        connection = await self._connect()
        events = [item for item in items if isinstance(item, Event)]
        unreadable = [item for item in items if isinstance(item, Unreadable)]
        try:
            if events:
                unreadable += await self._ingest(connection, events)
            if unreadable:
                await self._quarantine(connection, unreadable)
            self._check_doubt()
        except BaseException:
            # A cancelled or failed statement leaves the connection in doubt, so no other group may use it.
            self.close()
            raise

    async def write_one(self, event: Event) -> bool:
        """Commits one event; False, and nothing is changed, when the database refuses its data."""
        connection = await self._connect()
        try:
            is_refused = bool(await self._ingest(connection, [event]))
            self._check_doubt()
            return not is_refused
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drops the connection; the server rolls back what was not committed."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await connect(self._url)
            try:
                await note_server(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
            self._connection.add_log_listener(self._note_message)
            self._is_in_doubt = False
        return self._connection

    def _note_message(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        self._is_in_doubt = self._is_in_doubt or message.severity_en == "WARNING"

    def _check_doubt(self) -> None:
        """Postgres reports a commit whose wait for its synchronous standby was cancelled as done, with a warning."""
        if self._is_in_doubt:
            raise CommitInDoubtError("Postgres warned while it committed: the standby may not have it yet")

    async def _ingest(self, connection: asyncpg.Connection, events: list[Event]) -> list[Unreadable]:
        """Ingests events; returns those that the database refused."""
        try:
            events = await self._name_erased(connection, events)
            counts = await self._queries.ingest(
                connection, **dict(zip(Event._fields, zip(*events, strict=True), strict=True))
            )
        except DATA_ERRORS as error:
            if len(events) == 1:
                # The message may quote the data, so only the class of the error is kept.
                detail = getattr(error, "sqlstate", None) or type(error).__name__
                return [to_unreadable(events[0], "refused_by_database", detail)]
            middle = len(events) // 2
            return [
                *await self._ingest(connection, events[:middle]),
                *await self._ingest(connection, events[middle:]),
            ]
        for disposition in ("applied", "duplicates", "conflicts", "unattributed"):
            self._metrics.events.labels(disposition.removesuffix("s")).inc(counts[disposition])
        if counts["conflicts"] or counts["unattributed"]:
            await self._tell(connection, events, counts["conflicts"], counts["unattributed"])
        return []

    async def _name_erased(self, connection: asyncpg.Connection, events: list[Event]) -> list[Event]:
        """The events; one that names no phone, and in its body a person who was erased, is taken for that person's."""
        places = [place for place, event in enumerate(events) if not (event.phone and E164.fullmatch(event.phone))]
        if not places:
            return events
        numbers = await asyncio.to_thread(_list_numbers, [events[place].body for place in places])
        named = list(events)
        async for row in self._queries.find_erased_phones(connection, numbers=numbers):
            place = places[row["n"] - 1]
            named[place] = events[place]._replace(phone=row["phone"])
        return named

    async def _tell(
        self, connection: asyncpg.Connection, events: list[Event], conflicts: int, unattributed: int
    ) -> None:
        """Names some of the events that fit nobody or came with two bodies. They are committed, so nothing may fail."""
        limits = {
            "conflicts": self._lines.admit("conflict", conflicts) if conflicts else 0,
            "unattributed": self._lines.admit("unattributed", unattributed) if unattributed else 0,
        }
        if not any(limits.values()):
            return
        columns = {"event_id": [event.event_id for event in events], "digest": [event.digest for event in events]}
        try:
            async for row in self._queries.name_events(connection, **columns, **limits):
                logger.warning(f"event_{row['disposition']}", event_id=row["event_id"], reason=row["reason"])
        except Exception:
            self.close()
            logger.warning("events_not_named", exc_info=True)

    async def _quarantine(self, connection: asyncpg.Connection, unreadable: list[Unreadable]) -> None:
        columns = dict(zip(Unreadable._fields, zip(*unreadable, strict=True), strict=True))
        numbers = await asyncio.to_thread(_list_numbers, [item.body for item in unreadable])
        await self._queries.quarantine_bodies(connection, **columns, numbers=numbers)
        self._metrics.events.labels("quarantined").inc(len(unreadable))
        for item in unreadable:
            if self._lines.admit("quarantined"):
                named = {} if item.event_id is None else {"event_id": item.event_id}
                logger.warning("event_quarantined", reason=item.reason, target=item.target, **named)


def _list_numbers(bodies: list[bytes]) -> list[str]:
    """The numbers that each body names, as JSON."""
    return [msgspec.json.encode(find_numbers(body)).decode() for body in bodies]
