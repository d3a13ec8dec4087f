"""Calls outside batches over HTTP: single and inbound calls, their numbers, and the rules by which they are known."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.formant.events import STATUSES
from service.formant.kinds import KINDS, CallKinds
from service.formant.wanted import Wanted
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Free, Number
from service.web.responses import JsonResponse, One, Time, raw
from service.web.times import EARLIEST, LATEST, Period

KIND = Choice("kind", "Only calls of this kind", KINDS, default=None)
AGENT_ID = Number("agent_id", "Only calls of this agent", default=None, minimum=0, maximum=2**63 - 1)
LIMIT = Number("limit", "Maximum number of calls", default=100, minimum=1, maximum=1000)
AFTER = Free("after", "`next` of the previous page", "the `next` of a page")
KindName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*KINDS]})]
_CURSOR = re.compile(r"(-?[0-9]{1,18})-([0-9]{1,18})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OtherCall(msgspec.Struct):
    """A call that is in no batch, by the latest of its events."""

    kind: KindName
    agent_id: int | None
    phone: str | None
    """The person's: of an inbound call the caller's. Null if the caller withheld it, and once erased."""
    called_at: Time
    conversation_id: str
    status: str
    started_at: Time | None
    ended_at: Time | None
    duration_seconds: int | None
    failure_reason: str | None
    parameters: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": dict[str, Any] | None})]
    results: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": Any})]
    source: str
    """``webhook``, or ``healed`` from a conversation."""
    event_id: str


class OtherCallPage(msgspec.Struct):
    """A page of calls. Ask for the next page with ``after`` = ``next``; ``next`` is null on the last page."""

    data: list[OtherCall]
    next: str | None
    has_more: bool


class OtherCallCount(msgspec.Struct):
    """The calls of an agent of one kind that ended with one status."""

    agent_id: int | None
    kind: KindName
    status: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*STATUSES]})]
    calls: int


class OtherCallCounts(msgspec.Struct):
    """Calls outside batches, counted."""

    data: list[OtherCallCount]
    total: int


class AgentCallRules(msgspec.Struct):
    """The rules of an agent. ``numbers`` are its own: a call to one of them is inbound."""

    agent_id: int
    kind: KindName | None
    numbers: list[str]
    single_when: dict[str, list[Wanted]]


class CallRules(msgspec.Struct):
    """The rules in force in this process, from OUTCOMES_TARGETS_FILE. Without any, every call may be a batch's."""

    targets: dict[str, str]
    """The kind of each target whose calls are all of one kind."""
    agents: list[AgentCallRules]


class Calls:
    """Handlers of ``/v1/calls``. ``kinds`` are the rules in force."""

    def __init__(self, database: Database, kinds: CallKinds, *, default_time_zone: str) -> None:
        self._database = database
        self._kinds = kinds
        self._period = Period("calls that began", default_time_zone=default_time_zone)
        self._days = Period("calls that began", default_time_zone="UTC")

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/calls", self.list_calls, "read", "Calls outside batches",
                parameters=(KIND, AGENT_ID, *self._period.parameters, LIMIT, AFTER), answers=(Answer(OtherCallPage),),
                errors=(InvalidRequestError,),
            ),
            Operation(
                "GET", "/v1/calls/counts", self.count_calls, "read", "Calls outside batches",
                parameters=(KIND, AGENT_ID, *self._days.parameters[:2]), answers=(Answer(OtherCallCounts),),
                errors=(InvalidRequestError,),
            ),
            Operation(
                "GET", "/v1/calls/rules", self.show_rules, "read", "Calls outside batches",
                parameters=(), answers=(Answer(One[CallRules]),),
            ),
        ]  # fmt: skip

    async def list_calls(self, request: Request) -> Response:
        """Single and inbound calls, which are in no batch, in the order in which they began."""
        limit, cursor = LIMIT.read(request), AFTER.read(request)
        start, end, _ = self._period.read(request)
        called_at, arrival_id = (EARLIEST, 0) if cursor is None else _read_cursor(cursor)
        page = self._database.queries.list_other_calls(
            self._database.pool,
            kinds=_read_kinds(request),
            agent_id=AGENT_ID.read(request),
            since=start or EARLIEST,
            until=end or LATEST,
            after_called_at=called_at,
            after_arrival=arrival_id,
            limit=limit + 1,
        )
        rows = [dict(row) async for row in page]
        has_more = len(rows) > limit
        calls = []
        for row in rows[:limit]:
            cursor = _write_cursor(row["called_at"], row.pop("arrival_id"))
            calls.append(OtherCall(**row | {name: raw(row[name]) for name in ("parameters", "results")}))
        return JsonResponse(OtherCallPage(calls, cursor if has_more else None, has_more))

    async def count_calls(self, request: Request) -> Response:
        """The number of single and inbound calls by agent, kind and status; ``from`` and ``to`` are days of UTC."""
        start, end, _ = self._days.read(request)
        page = self._database.queries.count_other_calls_by_status(
            self._database.pool,
            kinds=_read_kinds(request),
            agent_id=AGENT_ID.read(request),
            since=_to_day("from", start or EARLIEST),
            until=_to_day("to", end or LATEST) - timedelta(days=1),
        )
        counts = [OtherCallCount(**row) async for row in page]
        return JsonResponse(OtherCallCounts(counts, sum(count.calls for count in counts)))

    async def show_rules(self, request: Request) -> Response:
        """The rules by which calls without a batch's reference are known as single or inbound calls."""
        agents = [
            AgentCallRules(
                agent_id,
                rules.kind,
                sorted(rules.numbers),
                {name: list(wanted) for name, wanted in rules.single_when.items()},
            )
            for agent_id, rules in sorted(self._kinds.agents.items())
        ]
        return JsonResponse(One(CallRules(dict(self._kinds.targets), agents)))


def _read_kinds(request: Request) -> list[str]:
    kind = KIND.read(request)
    return [*KINDS] if kind is None else [kind]


def _to_day(name: str, moment: datetime) -> date:
    if moment != datetime.combine(moment.date(), datetime.min.time(), UTC):
        raise InvalidRequestError(f"{name}: takes a day here, such as 2026-03-16")
    return moment.date()


def _write_cursor(called_at: datetime, arrival_id: int) -> str:
    return f"{(called_at - _EPOCH) // timedelta(microseconds=1)}-{arrival_id}"


def _read_cursor(text: str) -> tuple[datetime, int]:
    found = _CURSOR.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        return _EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError("after: takes the `next` of a page") from error
