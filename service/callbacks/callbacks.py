"""Callbacks: which results of an agent's calls are one, the list of them, and which are done.

``sql/functions/20_callbacks.sql`` defines a callback. ``apply_facts`` keeps them with the outcomes, so each follows
from the latest attempt of its recipient. After a change of an agent's setting, the callbacks of earlier calls follow in
small committed steps, which any replica can continue.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

import structlog

from service.background import every
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id
from service.wording import describe_actor

logger = structlog.get_logger()

State: TypeAlias = Literal["open", "overdue", "done"]

MAX_RESULTS = 10
MAX_NAME_CHARACTERS = 80
STEP_RECIPIENTS = 1000
"""Recipients in one commit. Webhooks wait for the ingest lock meanwhile, a few hundredths of a second."""
INTERVAL_SECONDS = 2.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """The place of a callback in the list: ``due_us`` in microseconds since 1970; None: without a time, at the end."""

    due_us: int | None
    callback_no: int

    @property
    def due_text(self) -> str:
        """The time for Postgres. Raises OverflowError for one beyond the calendar."""
        return (_EPOCH + timedelta(microseconds=self.due_us)).isoformat() if self.due_us is not None else "infinity"


class Filters(NamedTuple):
    """Which callbacks to list; ``open`` includes the overdue ones. Those without a time are in no period. A callback
    that is due on a day is compared with ``from_day`` and ``to_day`` (included), where the reader gave days."""

    batch_id: int | None = None
    agent_id: int | None = None
    due_from: datetime | None = None
    due_to: datetime | None = None
    state: State | None = None
    from_day: date | None = None
    to_day: date | None = None

    def to_arguments(self) -> dict[str, Any]:
        """The arguments by which queries select callbacks."""
        is_dated = self.due_from is not None or self.due_to is not None
        return {
            "batch_id": self.batch_id,
            "agent_id": self.agent_id,
            "done": {None: [False, True], "done": [True]}.get(self.state, [False]),
            "since": self.due_from,
            "until": self.due_to or (datetime(9998, 1, 1, tzinfo=UTC) if is_dated else None),
            "from_day": self.from_day,
            "to_day": self.to_day,
            "overdue_at": datetime.now(UTC) if self.state == "overdue" else None,
        }


class Page(NamedTuple):
    """Rows of the query ``list_callbacks``, and the place of the last if more follow."""

    rows: Sequence[Any]
    next: Position | None
    is_applied: bool
    """Whether earlier calls follow the settings of these agents; if not, callbacks may be missing."""


def check_results(results: Sequence[str]) -> list[str]:
    """The names of results, each once. Raises InvalidRequestError, which says what is wrong."""
    if not 1 <= len(results) <= MAX_RESULTS:
        raise InvalidRequestError(f"results: takes 1 to {MAX_RESULTS} names of results")
    for name in results:
        if not 0 < len(name.strip()) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise InvalidRequestError(f"results: a name takes 1 to {MAX_NAME_CHARACTERS} printable characters")
    return list(dict.fromkeys(results))


class Callbacks:
    """Sets which results are callbacks, lists callbacks, and marks them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_results(self, agent_id: int, results: list[str] | None, time_zone: str) -> bool:
        """Sets the results of an agent that are callbacks, or removes them (None). Returns whether anything changed."""
        actor = current_actor()
        changed: bool = await self._database.queries.set_callback_results(
            self._database.pool,
            agent_id=agent_id,
            results=results,
            time_zone=time_zone,
            actor=actor.name,
            key_id=actor.key_id,
            request_id=current_request_id(),
        )
        return changed

    async def list(self, filters: Filters, limit: int, after: Position | None = None) -> Page:
        """A page of callbacks by when they are due. Raises NotFoundError for an unknown batch."""
        queries, pool = self._database.queries, self._database.pool
        if filters.batch_id is not None and not await queries.has_batch(pool, batch_id=filters.batch_id):
            raise NotFoundError(f"There is no batch {filters.batch_id}")
        # Before the rows, so that they are all there if nothing is left to apply.
        agents = [row["agent_id"] async for row in queries.list_unapplied_callbacks(pool)]
        found = queries.list_callbacks(
            pool,
            **filters.to_arguments(),
            after_due=after.due_text if after else None,
            after_no=after.callback_no if after else 0,
            limit=limit + 1,
        )
        rows = [row async for row in found]
        is_applied = not agents if filters.agent_id is None else filters.agent_id not in agents
        return Page(rows[:limit], _place(rows[limit - 1]) if len(rows) > limit else None, is_applied)

    async def read_recipient(self, batch_id: int, recipient: int) -> Sequence[Any]:
        """The callbacks of a recipient, by the name of the result."""
        rows = self._database.queries.list_recipient_callbacks(
            self._database.pool, batch_id=batch_id, recipient_no=recipient
        )
        return [row async for row in rows]

    async def mark(self, batch_id: int, recipient: int, result: str | None, *, is_done: bool, note: str | None) -> bool:
        """Marks a callback of a recipient, or all of them (``result`` None), as done or open again. Returns whether
        anything changed. Raises NotFoundError if there is no such callback, ConflictError if somebody else has done it
        and noted something else."""
        actor = current_actor()
        marked = await self._database.queries.mark_callbacks(
            self._database.pool,
            batch_id=batch_id,
            recipient_no=recipient,
            name=result,
            is_done=is_done,
            note=note,
            actor=actor.name,
            key_id=actor.key_id,
            request_id=current_request_id(),
        )
        if marked["outcome"] == "unknown":
            named = f" {result!r}" if result is not None else ""
            raise NotFoundError(
                f"Recipient {recipient} of batch {batch_id} has no callback{named}: see GET /v1/callbacks"
            )
        if marked["outcome"] == "taken":
            done_by, done_at = marked["done_by"], f"{marked['done_at'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            raise ConflictError(
                f"Already done: {describe_actor(done_by)} marked {marked['name']} at {done_at}, with another note. "
                "Nothing was changed: open it again first to mark it with yours",
                details={"result": marked["name"], "done_by": done_by, "done_at": done_at},
            )
        return bool(marked["outcome"] == "changed")


class CallbackSettings:
    """Applies the settings of agents to the calls from before them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.finish, "callbacks_not_applied")

    async def finish(self) -> None:
        """Applies all settings that are not wholly applied."""
        queries, pool = self._database.queries, self._database.pool
        for row in [row async for row in queries.list_unapplied_callbacks(pool)]:
            while await queries.apply_callbacks_step(pool, setting_id=row["setting_id"], recipients=STEP_RECIPIENTS):
                pass
            logger.info("callbacks_applied", agent_id=row["agent_id"])


def _place(row: Any) -> Position:
    due = row["due_at"]
    return Position(None if due is None else (due - _EPOCH) // timedelta(microseconds=1), row["callback_no"])
