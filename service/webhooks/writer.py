"""Writes groups on its own connection: readable events through ``ingest``, the others into quarantine.

On a data error the group is bisected down to the event that caused it. That event goes to quarantine; the rest commit.
Any other error comes from the database: it is raised, and the caller retries the group.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import structlog

from service.errors import CommitInDoubtError
from service.formant.events import Event, Unreadable, to_unreadable
from service.formant.opt_outs import NO_OPT_OUTS, OptOuts
from service.phones.bodies import find_numbers
from service.phones.parsing import E164
from service.store.database import connect, note_server
from service.telemetry.logs import LineLimit
from service.telemetry.metrics import Metrics
from service.webhooks.committer import Item

logger = structlog.get_logger()

# SQLSTATE classes 22, 23 and 54, and values the driver cannot encode: a retry cannot help.
DATA_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


class Writer:
    """Holds the connection that events are committed on, and opens a new one after any failure."""

    def __init__(self, url: str, queries: Any, metrics: Metrics, opt_outs: OptOuts = NO_OPT_OUTS) -> None:
        self._url = url
        self._queries = queries
        self._metrics = metrics
        self._opt_outs = opt_outs
        self._connection: asyncpg.Connection | None = None
        self._is_in_doubt = False
        self._lines = LineLimit("events_need_a_look")

    async def write(self, items: Sequence[Item]) -> None:
        """Commits the items. Raises when the database is unreachable or fails, and CommitInDoubtError when it commits
        with a warning. In either case the same items may be written again."""
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
        """Commits one event. Returns False, with nothing changed, when the database refuses its data."""
        connection = await self._connect()
        try:
            is_refused = bool(await self._ingest(connection, [event]))
            self._check_doubt()
            return not is_refused
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drops the connection; the server rolls back uncommitted work."""
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
        """Raises CommitInDoubtError after a warning: Postgres reports a commit as done, with a warning, when the wait
        for its synchronous standby was cancelled."""
        if self._is_in_doubt:
            raise CommitInDoubtError("Postgres warned during the commit: the standby may not have it yet")

    async def _ingest(self, connection: asyncpg.Connection, events: list[Event]) -> list[Unreadable]:
        """Ingests events; returns those that the database refused."""
        try:
            events = await self._fill_erased_phones(connection, events)
            if self._opt_outs:
                await self._suppress(connection, events)
            counts = await self._queries.ingest(
                connection, **dict(zip(Event._fields, zip(*events, strict=True), strict=True))
            )
        except DATA_ERRORS as error:
            if len(events) == 1:
                # The message may quote the data, so only the class of the error is kept.
                detail = getattr(error, "sqlstate", None) or type(error).__name__
                return [to_unreadable(events[0], "refused_by_database", detail)]
            middle = len(events) // 2
            return [*await self._ingest(connection, events[:middle]), *await self._ingest(connection, events[middle:])]
        for disposition in ("applied", "duplicates", "conflicts", "unattributed", "other_calls"):
            self._metrics.events.labels(disposition.removesuffix("s")).inc(counts[disposition])
        if counts["conflicts"] or counts["unattributed"]:
            await self._log_unusual(connection, events, counts["conflicts"], counts["unattributed"])
        return []

    async def _suppress(self, connection: asyncpg.Connection, events: list[Event]) -> None:
        """Suppresses the people of calls that match a rule. It is committed before the events are: until then the
        provider sends them again."""
        found = [(event, reason) for event in events if (reason := self._opt_outs.find(event)) is not None]
        if not found:
            return
        counts = await self._queries.learn_suppressions(
            connection,
            phone=[event.phone if event.phone and E164.fullmatch(event.phone) else None for event, _ in found],
            ref_token=[event.ref_token for event, _ in found],
            ref_no=[event.ref_no for event, _ in found],
            agent_id=[event.agent_id for event, _ in found],
            reason=[reason for _, reason in found],
            called_at=[_find_end(event) for event, _ in found],
        )
        if counts["added"]:
            self._metrics.learned_suppressions.inc(counts["added"])
            logger.info("people_suppressed", count=counts["added"])

    async def _fill_erased_phones(self, connection: asyncpg.Connection, events: list[Event]) -> list[Event]:
        """The events. One without a usable phone gets the phone of an erased person that its body names."""
        places = [place for place, event in enumerate(events) if not (event.phone and E164.fullmatch(event.phone))]
        if not places:
            return events
        numbers = await asyncio.to_thread(_list_numbers, [events[place].body for place in places])
        named = list(events)
        async for row in self._queries.find_erased_phones(connection, numbers=numbers):
            place = places[row["n"] - 1]
            named[place] = events[place]._replace(phone=row["phone"])
        return named

    async def _log_unusual(
        self, connection: asyncpg.Connection, events: list[Event], conflicts: int, unattributed: int
    ) -> None:
        """Logs some of the unattributed and conflicting events. They are committed already, so this must not raise."""
        limits = {
            "conflicts": self._lines.admit("conflict", conflicts) if conflicts else 0,
            "unattributed": self._lines.admit("unattributed", unattributed) if unattributed else 0,
        }
        if not any(limits.values()):
            return
        columns = {name: [getattr(event, name) for event in events] for name in ("event_id", "digest", "occurred_at")}
        try:
            async for row in self._queries.name_events(connection, **columns, **limits):
                logger.warning(f"event_{row['disposition']}", event_id=row["event_id"], reason=row["reason"])
        except Exception:
            self.close()
            logger.warning("event_naming_failed", exc_info=True)

    async def _quarantine(self, connection: asyncpg.Connection, unreadable: list[Unreadable]) -> None:
        columns = dict(zip(Unreadable._fields, zip(*unreadable, strict=True), strict=True))
        numbers = await asyncio.to_thread(_list_numbers, [item.body for item in unreadable])
        await self._queries.quarantine_bodies(connection, **columns, numbers=numbers)
        self._metrics.events.labels("quarantined").inc(len(unreadable))
        for item in unreadable:
            if self._lines.admit("quarantined"):
                named = {} if item.event_id is None else {"event_id": item.event_id}
                logger.warning("event_quarantined", reason=item.reason, target=item.target, **named)


def _find_end(event: Event) -> datetime:
    """When the call ended, as far as is known; no later than it was reported."""
    return min(event.ended_at or event.occurred_at or event.started_at or event.received_at, event.received_at)


def _list_numbers(bodies: list[bytes]) -> list[str]:
    """The phone numbers in each body, as JSON."""
    return [msgspec.json.encode(find_numbers(body)).decode() for body in bodies]
