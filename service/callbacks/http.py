"""Callbacks over HTTP: the list and their marks."""

import re
from datetime import date
from typing import Annotated, Any, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.callbacks.callbacks import Callbacks, Filters, Position, State
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.outcomes.http import BATCH_ID
from service.outcomes.recipients_http import RECIPIENT
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Choice, Free, Number, read_json
from service.web.responses import JsonResponse, One, Time, raw
from service.web.times import Moment, TimeZone

STATES: tuple[State, ...] = get_args(State)
MAX_NOTE_CHARACTERS = 500
EXAMPLE = '{"done": true, "note": "called back"}'
StateName = Annotated[str, Meta(extra_json_schema={"enum": [*STATES]})]

AGENT_ID = Number("agent_id", "Only callbacks of this agent", default=None, minimum=0, maximum=2**63 - 1)
BATCH = Number("batch_id", "Only callbacks of this batch", default=None, minimum=0, maximum=10**18 - 1)
DUE_FROM = Moment(
    "due_from", "Only callbacks due on or after this day of `time_zone`, or since this time", day="begins"
)
DUE_TO = Moment("due_to", "Only callbacks due on or before this day of `time_zone`, or before this time", day="ends")
STATE = Choice(
    "state", "`open`: all that are not done; `overdue`: those of them whose time has passed", STATES, default=None
)
FILTERS = (AGENT_ID, BATCH, DUE_FROM, DUE_TO, STATE)
LIMIT = Number("limit", "Maximum number of callbacks", default=100, minimum=1, maximum=1000)
AFTER = Free("after", "`next` of the previous page", "the `next` of a page")
_CURSOR = re.compile(r"(-?[0-9]{1,18}|none)_([0-9]{1,18})", re.ASCII)


class RecipientCallback(msgspec.Struct):
    """A callback of a recipient: a result of its latest attempt that is a time to call back or a promise."""

    result: str
    """The name of the result."""
    value: str
    """What it says, as text of up to 200 characters."""
    due_at: Time | None
    """Null where the text is no time; of a day its beginning in the zone of the setting: show ``due_on`` instead."""
    due_on: date | None
    """The day, if it is due on a day. A day has no zone: it is the same for every reader."""
    is_day: bool
    """It is due on a day, and overdue when that is over in the zone of the setting."""
    asked_at: Time
    """When the call began in which it was said."""
    state: StateName
    """``overdue``: not done, and its time has passed."""
    done_at: Time | None
    done_by: str | None
    """The key that it was marked with."""
    note: str | None
    conversation_id: str


class Callback(RecipientCallback):
    """A callback, and whose it is."""

    batch_id: int | None
    batch_name: str | None
    agent_id: int
    recipient: int
    phone: str | None
    parameters: Annotated[msgspec.Raw | None, Meta(extra={"shape": dict[str, Any] | None})]


class CallbackPage(msgspec.Struct):
    """A page of callbacks. Ask for the next page with ``after`` = ``next``; ``next`` is null on the last page."""

    data: list[Callback]
    next: str | None
    has_more: bool
    is_applied: bool
    """False while earlier calls are still searched for what a new setting of these agents asks: some may be missing."""


class CallbackMark(msgspec.Struct, forbid_unknown_fields=True):
    """Whether callbacks of a recipient are done."""

    done: bool
    note: Annotated[str, Meta(min_length=1, max_length=MAX_NOTE_CHARACTERS)] | None = None
    """Anything about it; it is deleted with the person. Only with ``done``."""
    result: str | None = None
    """Only the callback of this result; null: all of the recipient."""


class CallbackList:
    """Handlers of ``/v1/callbacks``."""

    def __init__(self, callbacks: Callbacks, *, default_time_zone: str) -> None:
        self._callbacks = callbacks
        self._time_zone = TimeZone("time_zone", "Time zone of days: an IANA name", default=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/callbacks", self.list, "read", "Callbacks",
                parameters=(*FILTERS, self._time_zone, LIMIT, AFTER), answers=(Answer(CallbackPage),),
                errors=(InvalidRequestError, NotFoundError),
            ),
            Operation(
                "PUT", "/v1/callbacks/{batch_id}/{recipient}", self.mark, "people", "Callbacks",
                parameters=(BATCH_ID, RECIPIENT), bodies=(Json(CallbackMark, f"Such as `{EXAMPLE}`"),),
                answers=(Answer(One[list[RecipientCallback]]),), errors=(InvalidRequestError, ConflictError),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """Callbacks by when they are due; those whose text is no time come last, and not with `due_from` or
        `due_to`."""
        cursor = AFTER.read(request)
        after = None if cursor is None else _read_cursor(cursor)
        page = await self._callbacks.list(read_filters(request, self._time_zone), LIMIT.read(request), after)
        shown = []
        for row in page.rows:
            fields = {name: row[name] for name in Callback.__struct_fields__}
            shown.append(Callback(**fields | {"parameters": raw(row["parameters"])}))
        following = page.next and _write_cursor(page.next)
        return JsonResponse(CallbackPage(shown, following, page.next is not None, page.is_applied))

    async def mark(self, request: Request) -> Response:
        """Marks the callbacks of a recipient as done, or as open again. They stay so until the recipient asks again in
        another call. The same mark again changes nothing; one that somebody else made with another note is not
        overwritten: open it again first. A change is a new entry in the feed."""
        batch_id, recipient = BATCH_ID.read(request), RECIPIENT.read(request)
        given = await read_json(request, CallbackMark, EXAMPLE)
        if given.note is not None and not given.done:
            raise InvalidRequestError("note: is only for a callback that is done; leave it out, or send done = true")
        for name in ("note", "result"):
            if "\0" in (getattr(given, name) or ""):
                raise InvalidRequestError(f"{name}: takes text without the character U+0000")
        if recipient >= 2**31:
            raise NotFoundError(f"There is no recipient {recipient} in batch {batch_id}")
        await self._callbacks.mark(batch_id, recipient, given.result, is_done=given.done, note=given.note)
        rows = await self._callbacks.read_recipient(batch_id, recipient)
        return JsonResponse(One([RecipientCallback(**row) for row in rows]))


def read_filters(request: Request, time_zone: TimeZone) -> Filters:
    """The filters of ``FILTERS``; for callbacks that are due at a time, their days are of ``time_zone``."""
    zone = ZoneInfo(time_zone.read(request))
    due_from, due_to = DUE_FROM.read_in(request, zone), DUE_TO.read_in(request, zone)
    if due_from is not None and due_to is not None and due_from >= due_to:
        raise InvalidRequestError("due_from, due_to: the period must end after it begins")
    days = (DUE_FROM.read_day(request), DUE_TO.read_day(request))
    return Filters(BATCH.read(request), AGENT_ID.read(request), due_from, due_to, STATE.read(request), *days)


def _write_cursor(place: Position) -> str:
    return f"{'none' if place.due_us is None else place.due_us}_{place.callback_no}"


def _read_cursor(text: str) -> Position:
    found = _CURSOR.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        place = Position(None if found[1] == "none" else int(found[1]), int(found[2]))
        assert place.due_text  # or OverflowError
        return place
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError("after: takes the `next` of a page") from error
