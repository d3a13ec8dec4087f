"""People over HTTP: look-up across batches, a person's timeline, and the person behind a recipient."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service import wording
from service.callbacks.shown import CallbackSaid
from service.errors import InvalidRequestError, NotFoundError
from service.outcomes.filters import STATES
from service.outcomes.http import BATCH_ID
from service.outcomes.recipients_http import RECIPIENT
from service.people.people import MAX_RECIPIENTS, People, Person, has_short_word, search_name, search_parameter
from service.phones.canonical import require_phone
from service.phones.parsing import PhoneError
from service.web.operations import Answer, Operation
from service.web.parameters import Free, Number, Text
from service.web.responses import JsonResponse, One, Page, Time, raw, to_page

MAX_PLACE = 2**63 - 1
KINDS = (
    "uploaded", "attempt", "retry", "callback_due", "callback_done", "withdrawn", "other_call", "unattributed",
    "suppressed", "suppression_lifted",
)  # fmt: skip
PHONE = Free("phone", "A phone in any spelling", "a phone in E.164, such as +919876543210")
PARAMETER = Free(
    "parameter", "A call parameter with exactly this value, such as the customer's own id",
    "NAME:VALUE, such as loan_id:LN-4711",
)  # fmt: skip
NAME = Text("name", "Words of a name, or their beginnings, in any case and order", default=None, maximum=200)
LIMIT = Number("limit", "Maximum number of people", default=20, minimum=1, maximum=100)
AFTER = Number("after", "`next` of the previous page", default=MAX_PLACE, minimum=0, maximum=MAX_PLACE)
STEPS = Number(
    "limit", "Number of steps; more if several have the time of the last", default=200, minimum=1, maximum=1000
)
BEFORE = Number(
    "after", "`next` of the previous page: microseconds since 1970", default=None, minimum=0, maximum=2 * 10**17
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Parameters = Annotated[msgspec.Raw | None, Meta(extra={"shape": dict[str, Any]})]


class PersonRecipient(msgspec.Struct):
    """A person in a batch."""

    batch_id: int | None
    batch_name: str
    agent_id: int
    recipient: int
    state: Annotated[str, Meta(extra_json_schema={"enum": [*STATES]})]
    state_text: str
    """The state in words."""
    status: str | None
    """The status of the latest attempt."""
    attempts: int
    last_attempt_at: Time | None
    next_retry_at: Time | None
    parameters: Parameters


class PersonSuppression(msgspec.Struct):
    """Why a person must not be called, who says so, and since when."""

    reason: str
    source: str
    since: Time


class KnownPerson(msgspec.Struct):
    """A person, by phone."""

    phone: str
    person: str
    """A keyed hash: the same for the same person, as for erasures and suppressions."""
    recipients: list[PersonRecipient]
    """At most 50, those of the latest batches first."""
    recipient_count: int
    other_calls: int
    """Calls outside batches."""
    unattributed: int
    """Events that fit no recipient, or several."""
    suppression: PersonSuppression | None
    """Null if the person may be called."""
    place: msgspec.UnsetType | int = msgspec.UNSET
    """The place in the list, for ``next``; absent for a search by phone."""


class RevealedPerson(msgspec.Struct):
    """The person behind a recipient."""

    phone: str
    person: str
    parameters: Parameters


class TimelineStep(msgspec.Struct):
    """Something that happened to a person, or is due. What a kind has no value for is null."""

    at: Time
    """``callback_due``, ``retry``: when it is due, also in the future."""
    kind: Annotated[str, Meta(extra_json_schema={"enum": [*KINDS]})]
    batch_id: int | None
    batch_name: str | None
    agent_id: int | None
    recipient: int | None
    event_id: str | None
    """The event behind it: ``GET /v1/events/{event_id}/body`` has its body."""
    conversation_id: str | None
    attempt_number: int | None
    status: str | None
    is_final: bool | None
    duration_seconds: int | None
    failure_reason: str | None
    results: Annotated[msgspec.Raw | None, Meta(extra={"shape": Any})]
    meets_goal: bool | None
    """Of an attempt: whether its results meet the present goal of the agent; null without a goal."""
    callbacks: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[CallbackSaid] | None})]
    """Of an attempt: its results that are a time to call back, or a promise."""
    source: str | None
    """``webhook`` or ``healed``; of a suppression who says so."""
    detail: str | None
    """Of an upload its state, of a callback what was said, and the note; of an other call its kind; else the reason."""
    actor: str | None
    """The key that did it."""
    due_on: date | None
    """Of a ``callback_due`` that is due on a day: the day, which is the same for every reader."""


class PeopleCalls:
    """Handlers of ``/v1/people``. ``region`` is the country of phones without a country code; "" for none."""

    def __init__(self, people: People, *, region: str) -> None:
        self._people = people
        self._region = region

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/people", self.find, "people", "People",
                parameters=(PHONE, PARAMETER, NAME, LIMIT, AFTER), answers=(Answer(Page[KnownPerson]),),
                errors=(InvalidRequestError,),
            ),
            Operation(
                "GET", "/v1/people/timeline", self.read_timeline, "people", "People",
                parameters=(PHONE, STEPS, BEFORE), answers=(Answer(Page[TimelineStep]),), errors=(NotFoundError,),
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/recipients/{recipient}/person", self.reveal, "people", "People",
                parameters=(BATCH_ID, RECIPIENT), answers=(Answer(One[RevealedPerson]),),
            ),
        ]  # fmt: skip

    async def find(self, request: Request) -> Response:
        """Finds people across batches by `phone`, `parameter` or `name`, those in the latest batches first. A search
        that 5,000 recipients match is refused, as is one by words of under three letters that fit nobody as they are.
        Each look-up is in the audit log."""
        phone, parameter, name = PHONE.read(request), PARAMETER.read(request), NAME.read(request)
        limit, before = LIMIT.read(request), AFTER.read(request)
        if sum(given is not None for given in (phone, parameter, name)) != 1:
            raise InvalidRequestError("phone, parameter, name: send one of them")
        if phone is not None:
            found = await self._people.find_phone(self._read_phone(phone))
            return JsonResponse(Page([_show(person) for person in found], None, has_more=False))
        search = search_name(name) if name is not None else search_parameter(*_split_parameter(parameter or ""))
        by = "name" if name is not None else "parameter"
        found = await self._people.search(by, search, before, limit + 1)
        if not found and before == MAX_PLACE and name is not None and has_short_word(name):
            raise InvalidRequestError(
                "name: nobody has these words in their name; type at least three letters of each, because one or two "
                "are found only as a whole word"
            )
        return JsonResponse(to_page([_show(person) for person in found], limit, "place"))

    async def read_timeline(self, request: Request) -> Response:
        """What happened to a person across batches, and what is due, the latest first: uploads, attempts, retries,
        callbacks, other calls and suppressions; of the 500 latest recipients. It is in the audit log."""
        phone, before, limit = PHONE.read(request), BEFORE.read(request), STEPS.read(request)
        if phone is None:
            raise InvalidRequestError(f"phone: is missing; it takes {PHONE.takes}")
        since = None if before is None else _EPOCH + timedelta(microseconds=before)
        rows = await self._people.read_timeline(self._read_phone(phone), since, limit)
        has_more = bool(rows) and rows[0]["found"] > len(rows)
        following = (rows[-1]["at"] - _EPOCH) // timedelta(microseconds=1) if has_more else None
        steps = []
        for row in rows:
            fields = {name: row[name] for name in TimelineStep.__struct_fields__}
            steps.append(TimelineStep(**fields | {name: raw(row[name]) for name in ("results", "callbacks")}))
        return JsonResponse(Page(steps, following, has_more))

    async def reveal(self, request: Request) -> Response:
        """The phone and the parameters of a recipient. It is in the audit log."""
        row = await self._people.reveal(BATCH_ID.read(request), RECIPIENT.read(request))
        return JsonResponse(One(RevealedPerson(row["phone"], row["person"], raw(row["parameters"]))))

    def _read_phone(self, text: str) -> str:
        """A phone in E.164. A plus sign that was not encoded arrives as a space, and is read as a plus."""
        if text.startswith(" ") and text[1:2].isdecimal():
            text = f"+{text[1:]}"
        try:
            return require_phone(text, self._region)
        except PhoneError as error:
            raise InvalidRequestError(f"phone: {error.problem}: {error.remedy}") from error


def _split_parameter(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name and colon and value and "\0" not in text):
        raise InvalidRequestError(f"parameter: takes {PARAMETER.takes}")
    return name, value


def _show(person: Person) -> KnownPerson:
    row = person.row
    suppression = None if row["since"] is None else PersonSuppression(row["reason"], row["source"], row["since"])
    assert len(person.recipients) <= MAX_RECIPIENTS
    return KnownPerson(
        phone=row["phone"],
        person=row["person"],
        recipients=[_show_recipient(recipient) for recipient in person.recipients],
        recipient_count=row["recipients"],
        other_calls=row["other_calls"],
        unattributed=row["unattributed"],
        suppression=suppression,
        place=msgspec.UNSET if person.place is None else person.place,
    )


def _show_recipient(row: Any) -> PersonRecipient:
    fields = {name: row[name] for name in PersonRecipient.__struct_fields__ if name != "state_text"}
    text = wording.describe(wording.STATES, row["state"]) or ""
    return PersonRecipient(**fields | {"parameters": raw(row["parameters"]), "state_text": text})
