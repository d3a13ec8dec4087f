"""Unattributed events over HTTP: one of them with the recipients that it may belong to, and placing it by hand."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service import wording
from service.errors import ApiError, ConflictError, InvalidRequestError, NotFoundError
from service.formant.kinds import Kind
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, read_json
from service.web.responses import JsonResponse, One, Time
from service.webhooks.http import Unattributed

ARRIVAL_ID = Id("arrival_id", "unattributed event", "The id from `GET /v1/unattributed`")
EXAMPLE = '{"batch_id": 456, "recipient": 7}'
MAX_CANDIDATES = 50
REFUSALS: dict[str, tuple[type[ApiError], str]] = {
    "unknown_event": (NotFoundError, "There is no unattributed event {arrival_id}"),
    "placed": (
        ConflictError,
        "Event {arrival_id} has its place already, by evidence or by a person: GET /v1/events/{{event_id}} shows it",
    ),
    "not_read": (
        ConflictError,
        "Event {arrival_id} was stored without its content by an earlier version: run `outcomes reattribute` once",
    ),
    "unknown_batch": (NotFoundError, "batch_id: there is no batch {batch_id}"),
    "unknown_recipient": (
        NotFoundError,
        "recipient: batch {batch_id} has no recipient {recipient}, or no longer has it",
    ),
    "no_person": (
        ConflictError,
        "The event names no agent or no phone, so it fits no recipient: give `kind` if its call is in no batch",
    ),
    "other_agent": (ConflictError, "batch_id: batch {batch_id} is of another agent than the event"),
    "forgotten": (
        ConflictError,
        "recipient: the person of recipient {recipient} of batch {batch_id} is erased or no longer kept",
    ),
    "other_phone": (
        ConflictError,
        "recipient: recipient {recipient} of batch {batch_id} has another phone than the event. If it is theirs "
        "nevertheless, send accept_phone true",
    ),
}


class Candidate(msgspec.Struct):
    """A recipient with the agent and the phone of an event."""

    batch_id: int
    batch_name: str
    created_at: Time | None
    recipient: int
    state: str
    attempts: int
    is_in_time: bool
    """The batch was under way when the call began."""


class UnattributedEvent(Unattributed):
    """An unattributed event, the call that it reports, and the recipients that it may belong to."""

    called_at: Time | None
    status: str | None
    duration_seconds: int | None
    conversation_id: str | None
    candidates: list[Candidate]
    """At most 50: first those in time, then the newest."""


class NewAssignment(msgspec.Struct, forbid_unknown_fields=True):
    """Where an event belongs: ``batch_id`` and ``recipient``, or ``kind``."""

    batch_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    recipient: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    accept_phone: bool = False
    """Also if the recipient has another phone than the event."""
    kind: Kind | None = None
    """The call is in no batch: ``single`` or ``inbound``. It cannot be moved back."""


class Assignment(msgspec.Struct):
    """Where an event is."""

    arrival_id: int
    batch_id: int | None
    recipient: int | None
    kind: Kind | None
    is_changed: bool
    """False: it was there already."""


class Assignments:
    """Handlers of ``/v1/unattributed/{arrival_id}…``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/unattributed/{arrival_id}", self.get, "read", "Events",
                parameters=(ARRIVAL_ID,), answers=(Answer(One[UnattributedEvent]),), errors=(NotFoundError,),
            ),
            Operation(
                "POST", "/v1/unattributed/{arrival_id}/assignment", self.assign, "admin", "Events",
                parameters=(ARRIVAL_ID,), bodies=(Json(NewAssignment, f"Such as `{EXAMPLE}`"),),
                answers=(Answer(One[Assignment], "It counts there"),), errors=(ConflictError, NotFoundError),
            ),
        ]  # fmt: skip

    async def get(self, request: Request) -> Response:
        """An event that fits no recipient, or several, with the recipients that have its agent and phone. 404 once it
        has its place."""
        arrival_id = ARRIVAL_ID.read(request)
        queries, pool = self._database.queries, self._database.pool
        row = await queries.get_unattributed(pool, arrival_id=arrival_id)
        if row is None:
            raise NotFoundError(f"There is no unattributed event {arrival_id}: it may have found its place meanwhile")
        page = queries.list_candidates(pool, arrival_id=arrival_id, limit=MAX_CANDIDATES)
        candidates = [Candidate(**candidate) async for candidate in page]
        text = wording.describe(wording.UNATTRIBUTED, row["reason"]) or ""
        return JsonResponse(One(UnattributedEvent(**row, reason_text=text, candidates=candidates)))

    async def assign(self, request: Request) -> Response:
        """Places an unattributed event by hand: at a recipient of its agent, or outside batches. It counts there from
        then on, and stays there whatever comes later, until the recipient is withdrawn. 409 names what contradicts it.
        To send the same again changes nothing."""
        arrival_id = ARRIVAL_ID.read(request)
        asked = await read_json(request, NewAssignment, EXAMPLE)
        check(asked)
        actor = current_actor()
        result = await self._database.queries.assign_event(
            self._database.pool,
            arrival_id=arrival_id,
            batch_id=asked.batch_id,
            recipient_no=asked.recipient,
            kind=asked.kind,
            accept_phone=asked.accept_phone,
            actor=actor.name,
            key_id=actor.key_id,
            request_id=current_request_id(),
        )
        if result in REFUSALS:
            error, text = REFUSALS[result]
            raise error(text.format(arrival_id=arrival_id, batch_id=asked.batch_id, recipient=asked.recipient))
        placed = Assignment(arrival_id, asked.batch_id, asked.recipient, asked.kind, result == "assigned")
        return JsonResponse(One(placed))


def check(asked: NewAssignment) -> None:
    """Raises InvalidRequestError unless it names one place."""
    has_recipient = asked.batch_id is not None and asked.recipient is not None
    if asked.kind is None and not has_recipient:
        raise InvalidRequestError("Send batch_id and recipient, or kind (single or inbound) for a call in no batch")
    if asked.kind is not None and (asked.batch_id is not None or asked.recipient is not None or asked.accept_phone):
        raise InvalidRequestError(
            "kind: a call in no batch has no recipient; leave out batch_id, recipient, accept_phone"
        )
