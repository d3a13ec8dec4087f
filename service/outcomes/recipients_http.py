"""Recipients over HTTP: one row each, with what decided its outcome, and the history of one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service import wording
from service.errors import InvalidRequestError, NotFoundError
from service.formant.events import STATUSES
from service.outcomes.as_of import PastReader
from service.outcomes.http import AS_OF, BATCH_ID
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Free, Id, Number
from service.web.responses import JsonResponse, One, Page, Time, raw
from service.web.times import Moment, TimeZone

STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn", "erased")
MAX_RECIPIENT = 2**31 - 1
ATTEMPTS_LIMIT = 2**31 - 1
FILTER_SCAN_RECIPIENTS = 10_000
SOURCES = ("webhook", "healed")

RECIPIENT = Id("recipient", "recipient", "Its number in the batch, from 1")
LIMIT = Number("limit", "Maximum number of recipients", default=100, minimum=1, maximum=1000)
AFTER = Number(
    "after", "`next` of the previous page, a recipient's number", default=0, minimum=0, maximum=MAX_RECIPIENT
)
STATE = Choice("state", "Only recipients in this state", STATES, default=None)
SOURCE = Choice("source", "Only recipients whose outcome comes from this source", SOURCES, default=None)
MIN_ATTEMPTS = Number("min_attempts", "Minimum number of attempts", default=0, minimum=0, maximum=ATTEMPTS_LIMIT)
MAX_ATTEMPTS = Number(
    "max_attempts", "Maximum number of attempts", default=ATTEMPTS_LIMIT, minimum=0, maximum=ATTEMPTS_LIMIT
)
CHANGED_SINCE = Moment(
    "changed_since", "Only recipients whose outcome changed since then: a day of `time_zone`, or a time", day="begins"
)
RESULT = Free("result", "Only recipients with this result", "NAME:VALUE, such as intent:promise_to_pay")


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


class Filters(NamedTuple):
    """Filters of recipients: ``state`` and ``source`` are those of the outcome, the result is that of its attempt."""

    state: str | None = None
    source: str | None = None
    min_attempts: int = 0
    max_attempts: int = ATTEMPTS_LIMIT
    changed_since: datetime | None = None
    result_name: str | None = None
    result_value: str | None = None


NO_FILTERS = Filters()


class Recipients:
    """Handlers of ``/v1/batch-calls/{id}/recipients``."""

    def __init__(self, database: Database, *, default_time_zone: str) -> None:
        self._database = database
        self._past = PastReader(database)
        self._time_zone = TimeZone("time_zone", "Time zone of days: an IANA name", default=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients", self.list, "read", "Outcomes",
                parameters=(BATCH_ID, STATE, SOURCE, MIN_ATTEMPTS, MAX_ATTEMPTS, CHANGED_SINCE, self._time_zone,
                            RESULT, LIMIT, AFTER, AS_OF),
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
        filters = read_filters(request, ZoneInfo(self._time_zone.read(request)))
        as_of = AS_OF.read(request)
        if as_of is not None and filters.changed_since is not None:
            raise InvalidRequestError("changed_since: cannot be combined with as_of")
        count = await self._count(batch_id, as_of)
        until = min(count, after + (limit if filters == NO_FILTERS else FILTER_SCAN_RECIPIENTS))
        rows = await self._read(batch_id, after, until, filters, as_of)
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
        rows = await self._read(batch_id, number - 1, number, NO_FILTERS, as_of) if 1 <= number <= count else []
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

    async def _read(
        self, batch_id: int, after: int, until: int, filters: Filters, as_of: datetime | None
    ) -> Sequence[asyncpg.Record]:
        queries, pool = self._database.queries, self._database.pool
        asked: dict[str, Any] = {"batch_id": batch_id, "after": after, "until": until, **filters._asdict()}
        if as_of is None:
            return [row async for row in queries.list_recipients(pool, **asked)]
        del asked["changed_since"]
        return [row async for row in queries.list_recipients_as_of(pool, **asked, as_of=as_of)]


def read_filters(request: Request, zone: ZoneInfo) -> Filters:
    """The filters in the query, with days of ``zone``. Raises InvalidRequestError, which names the parameter."""
    least, most = MIN_ATTEMPTS.read(request), MAX_ATTEMPTS.read(request)
    if least > most:
        raise InvalidRequestError("min_attempts, max_attempts: the minimum is above the maximum")
    result = RESULT.read(request)
    name, colon, value = (result or "").partition(":")
    if result is not None and not (name and colon and "\0" not in result):
        raise InvalidRequestError(f"result: takes {RESULT.takes}")
    return Filters(
        state=STATE.read(request),
        source=SOURCE.read(request),
        min_attempts=least,
        max_attempts=most,
        changed_since=CHANGED_SINCE.read_in(request, zone),
        result_name=name or None,
        result_value=value if result is not None else None,
    )


def _show_recipient(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row) | {"parameters": raw(row["parameters"]), "results": raw(row["results"])}
