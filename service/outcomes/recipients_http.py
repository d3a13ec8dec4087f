"""Recipients over HTTP: one row each, with what decided its outcome, and the history of one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service import wording
from service.callbacks.shown import ShownCallback
from service.errors import InvalidRequestError, NotFoundError
from service.outcomes.as_of import PastReader
from service.outcomes.filters import NO_FILTERS, RECIPIENT_FILTERS, STATES, FilterReader, Filters
from service.outcomes.http import AS_OF, BATCH_ID
from service.outcomes.summary import refuse_time_zone
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Id, Number
from service.web.responses import JsonResponse, One, Page, Time, raw
from service.web.times import TimeZone

MAX_RECIPIENT = 2**31 - 1
FILTER_SCAN_RECIPIENTS = 10_000

RECIPIENT = Id("recipient", "recipient", "Its number in the batch, from 1")
LIMIT = Number("limit", "Maximum number of recipients", default=100, minimum=1, maximum=1000)
AFTER = Number(
    "after", "`next` of the previous page, a recipient's number", default=0, minimum=0, maximum=MAX_RECIPIENT
)


class Recipient(msgspec.Struct):
    """A recipient: its call parameters, and its outcome, which is that of its latest attempt."""

    batch_id: int
    recipient: int
    """Its number in the batch, from 1."""
    phone: str | None
    """Null once it is erased, or after its retention period."""
    parameters: Annotated[msgspec.Raw | None, Meta(extra={"shape": dict[str, Any]})]
    """The other columns of its row."""
    state: Annotated[str, Meta(extra_json_schema={"enum": [*STATES]})]
    """The counted state: ``in_progress`` (no attempt known yet), ``pending_retry``, or the final status."""
    status: str | None
    """The status of the latest attempt."""
    is_final: bool
    attempts: int
    duration_seconds: int | None
    results: Annotated[msgspec.Raw | None, Meta(extra={"shape": Any})]
    """What the agent made of the latest attempt: any JSON."""
    failure_reason: str | None
    next_retry_at: Time | None
    last_attempt_at: Time | None
    conversation_id: str | None
    source: str | None
    """Where the outcome comes from: ``webhook`` or ``healed``."""
    version: int | None
    """How often the outcome has changed; null as of an earlier time."""
    event_id: str | None
    """The event that decided it."""
    method: str | None
    """How the recipient was found: ``reference``, ``recipient`` or ``window``."""
    known_at: Time | None
    from_phone: str | None
    """The number that the latest attempt was made from; null if the event that decided it does not name it."""
    trace_id: str | None
    """The provider's id of the latest attempt, for its support."""
    goal_met: bool | None
    """The latest attempt meets the goal of the campaign or agent. Null without a goal, before the first attempt, and
    while the results of a completed call are not known."""
    callbacks: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[ShownCallback] | None})]
    """What the latest attempt asks for, by the setting of the agent; null if nothing, and as of an earlier time."""


class Fact(msgspec.Struct):
    """What one event says about one attempt."""

    event_id: str
    source: str
    method: str
    conversation_id: str
    attempt_number: int | None
    status: str
    is_final: bool
    started_at: Time | None
    ended_at: Time | None
    duration_seconds: int | None
    failure_reason: str | None
    next_retry_at: Time | None
    results: Annotated[msgspec.Raw | None, Meta(extra={"shape": Any})]
    occurred_at: Time | None
    known_at: Time
    from_phone: str | None
    trace_id: str | None
    won: bool
    """True if this fact is the one that counts for its attempt."""
    decided: bool
    """True if the outcome is based on this fact."""


class RecipientHistory(Recipient):
    """A recipient with every fact about its attempts, in order."""

    state_text: str
    """The state in words."""
    history: list[Fact]


class Recipients:
    """Handlers of ``/v1/batch-calls/{id}/recipients``."""

    def __init__(self, database: Database, filters: FilterReader, *, default_time_zone: str) -> None:
        self._database = database
        self._past = PastReader(database)
        self._filters = filters
        self._time_zone = TimeZone("time_zone", "Time zone of days: an IANA name", default=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients", self.list, "read", "Outcomes",
                parameters=(BATCH_ID, *RECIPIENT_FILTERS, self._time_zone, LIMIT, AFTER, AS_OF),
                answers=(Answer(Page[Recipient]),),
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients/{recipient}", self.get, "read", "Outcomes",
                parameters=(BATCH_ID, RECIPIENT, AS_OF), answers=(Answer(One[RecipientHistory]),),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The recipients of a batch, by number. With a filter, a page scans a limited number of recipients and may be
        short or empty: continue with ``next``."""
        batch_id, limit, after = BATCH_ID.read(request), LIMIT.read(request), AFTER.read(request)
        filters = await self._filters.read(request, ZoneInfo(self._time_zone.read(request)), batch_id=batch_id)
        as_of = AS_OF.read(request)
        if as_of is not None and filters.changed_since is not None:
            raise InvalidRequestError("changed_since: cannot be combined with as_of")
        count = await self._count(batch_id, as_of)
        if filters.phone is not None:
            after = await self._skip_to_phone(batch_id, after, filters.phone, count)
        until = min(count, after + (limit if filters == NO_FILTERS else FILTER_SCAN_RECIPIENTS))
        with refuse_time_zone(filters.time_zone or ""):
            rows = await self._read(batch_id, after, until, filters, as_of, limit=limit + 1)
        if len(rows) > limit:
            rows = rows[:limit]
            until = rows[-1]["recipient"]
        has_more = until < count
        shown = [Recipient(**_show_recipient(row)) for row in rows]
        return JsonResponse(Page(shown, until if has_more else None, has_more))

    async def get(self, request: Request) -> Response:
        """One recipient, with the history of its attempts and the source of each fact."""
        batch_id, number, as_of = BATCH_ID.read(request), RECIPIENT.read(request), AS_OF.read(request)
        count = await self._count(batch_id, as_of)
        rows = (
            await self._read(batch_id, number - 1, number, NO_FILTERS, as_of, limit=1) if 1 <= number <= count else []
        )
        if not rows:
            raise NotFoundError(f"There is no recipient {number} in batch {batch_id}")
        queries, pool = self._database.queries, self._database.pool
        if as_of is None:
            facts = queries.list_recipient_facts(pool, batch_id=batch_id, recipient_no=number)
        else:
            facts = queries.list_recipient_facts_as_of(pool, batch_id=batch_id, recipient_no=number, as_of=as_of)
        history = [Fact(**dict(fact) | {"results": raw(fact["results"])}) async for fact in facts]
        shown = _show_recipient(rows[0])
        text = wording.describe(wording.STATES, shown["state"])
        return JsonResponse(One(RecipientHistory(**shown, state_text=text or "", history=history)))

    async def _count(self, batch_id: int, as_of: datetime | None) -> int:
        """The number of recipients, now or as of that time."""
        if as_of is not None:
            return (await self._past.find(batch_id, as_of))[1]
        count: int | None = await self._database.queries.get_recipient_count(self._database.pool, batch_id=batch_id)
        if count is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return count

    async def _skip_to_phone(self, batch_id: int, after: int, phone: str, count: int) -> int:
        """The number before the next recipient with that phone, by its index; ``count`` if there is none."""
        first = await self._database.queries.find_recipient_by_phone(
            self._database.pool, batch_id=batch_id, after=after, phone=phone
        )
        return count if first is None else int(first) - 1

    async def _read(
        self, batch_id: int, after: int, until: int, filters: Filters, as_of: datetime | None, *, limit: int
    ) -> Sequence[asyncpg.Record]:
        queries, pool = self._database.queries, self._database.pool
        asked: dict[str, Any] = {
            "batch_id": batch_id, "after": after, "until": until, "filters": filters.to_json(),
            "limit": limit,
        }  # fmt: skip
        if as_of is None:
            return [row async for row in queries.list_recipients(pool, **asked)]
        return [row async for row in queries.list_recipients_as_of(pool, **asked, as_of=as_of)]


def _show_recipient(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row) | {name: raw(row[name]) for name in ("parameters", "results", "callbacks")}
