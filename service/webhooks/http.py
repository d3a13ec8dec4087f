"""Events over HTTP: one event by its id, unattributed and contradicting events, and the quarantine."""

from typing import Annotated, TypeVar

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service import wording
from service.access.audit import record_audit
from service.errors import InvalidRequestError, NotFoundError
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Id, Number, PathText
from service.web.responses import JsonResponse, One, Page, Time, to_page
from service.webhooks.quarantine import Replayer

T = TypeVar("T", bound=msgspec.Struct)
MAX_CURSOR = 2**63 - 1
DISPOSITIONS = ("applied", "superseded", "unattributed", "other_call", "quarantined", "erased")

EVENT_ID = PathText("event_id", "The provider's event id, as sent in the webhook")
QUARANTINE_ID = Id("quarantine_id", "quarantined body", "The id from `GET /v1/quarantine`")
LIMIT = Number("limit", "Maximum number of entries", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the previous page", default=0, minimum=0, maximum=MAX_CURSOR)


class EventState(msgspec.Struct):
    """What became of an event."""

    event_id: str
    event_type: str | None
    target: str
    received_at: Time
    recorded_at: Time
    disposition: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*DISPOSITIONS]})]
    """``superseded``: stored, but a later event decides its attempt. ``other_call``: a rule says that its call is in no
    batch."""
    disposition_text: str
    """The same in words."""
    reason: str | None
    """Why it is unattributed or quarantined."""
    reason_text: str | None
    """The same in words."""
    batch_id: int | None
    recipient: int | None
    method: str | None
    """How its recipient was found: by ``reference``; by phone, among the recipients that were due (``recipient``);
    created for it in a batch whose recipients are not known (``window``); or ``manual``, by a person."""
    conversation_id: str | None
    attempt_number: int | None
    status: str | None
    conflicts: int
    """How often the same event id arrived with a different body."""
    contradicts_phone: bool
    """Its reference names a recipient whose phone is not the one called. It counts for that recipient."""
    kind: str | None
    """Of an ``other_call``: ``single`` or ``inbound``."""


class Contradiction(msgspec.Struct):
    """An event whose reference names a recipient whose phone is not the one called."""

    arrival_id: int
    event_id: str
    agent_id: int
    batch_id: int | None
    recipient: int
    """The recipient that the reference names; the event counts for this one."""
    phone: str
    """The phone called."""
    received_at: Time


class Unattributed(msgspec.Struct):
    """An event that fits no recipient (``no_batch``) or several (``ambiguous``)."""

    arrival_id: int
    event_id: str
    agent_id: int | None
    phone: str | None
    source: str
    """``webhook``, or ``healed`` from a conversation."""
    is_question: bool
    """Somebody has to decide, and the alarm ``unattributed_events`` counts it: every webhook, and no conversation."""
    reason: str
    reason_text: str
    """The same in words."""
    received_at: Time


class Quarantined(msgspec.Struct):
    """A signed body that cannot be used, with the reason."""

    quarantine_id: int
    event_id: str | None
    target: str
    reason: str
    reason_text: str
    """The same in words."""
    detail: str
    size_bytes: int
    deliveries: int
    received_at: Time
    last_received_at: Time


class Replayed(msgspec.Struct):
    """A replayed body and the event it became."""

    quarantine_id: int
    event_id: str


class Events:
    """Handlers of ``/v1/events``, ``/v1/unattributed``, ``/v1/contradictions`` and ``/v1/quarantine``."""

    def __init__(self, database: Database, replayer: Replayer) -> None:
        self._database = database
        self._replayer = replayer

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/events/{event_id}", self.get_event, "read", "Events",
                parameters=(EVENT_ID,), answers=(Answer(One[EventState]),),
            ),
            Operation(
                "GET", "/v1/events/{event_id}/body", self.get_body, "people", "Events",
                parameters=(EVENT_ID,),
                answers=(Answer(str, "The body, byte for byte", media_type="application/octet-stream"),),
            ),
            Operation(
                "GET", "/v1/unattributed", self.list_unattributed, "read", "Events",
                parameters=(LIMIT, AFTER), answers=(Answer(Page[Unattributed]),),
            ),
            Operation(
                "GET", "/v1/contradictions", self.list_contradictions, "read", "Events",
                parameters=(LIMIT, AFTER), answers=(Answer(Page[Contradiction]),),
            ),
            Operation(
                "GET", "/v1/quarantine", self.list_quarantine, "read", "Events",
                parameters=(LIMIT, AFTER), answers=(Answer(Page[Quarantined]),),
            ),
            Operation(
                "POST", "/v1/quarantine/{quarantine_id}/replay", self.replay, "admin", "Events",
                parameters=(QUARANTINE_ID,), answers=(Answer(One[Replayed]),), errors=(InvalidRequestError,),
            ),
        ]  # fmt: skip

    async def get_event(self, request: Request) -> Response:
        """What became of an event. 404 until it is committed."""
        event_id = EVENT_ID.read(request)
        if "\x00" in event_id:
            raise NotFoundError("There is no event with that id")
        row = await self._database.queries.get_event(self._database.pool, event_id=event_id)
        if row is None:
            raise NotFoundError(f"There is no event {event_id!r} (yet): events appear once they are committed")
        words = wording.QUARANTINED if row["disposition"] == "quarantined" else wording.UNATTRIBUTED
        return JsonResponse(
            One(
                EventState(
                    **row,
                    disposition_text=wording.describe(wording.DISPOSITIONS, row["disposition"]) or "",
                    reason_text=wording.describe(words, row["reason"]),
                )
            )
        )

    async def get_body(self, request: Request) -> Response:
        """The raw body of an event, as it was signed. 404 if it is no longer kept. Each look is in the audit log."""
        event_id = EVENT_ID.read(request)
        queries, pool = self._database.queries, self._database.pool
        row = None if "\x00" in event_id else await queries.get_event_body(pool, event_id=event_id)
        if row is None:
            raise NotFoundError(f"There is no event {event_id!r} (yet): events appear once they are committed")
        if row["body"] is None:
            raise NotFoundError(
                f"The body of event {event_id!r} is no longer kept: bodies are deleted after "
                "OUTCOMES_KEEP_BODIES_DAYS, and when a person whom they name is erased"
            )
        await record_audit(self._database, pool, "body_read", row["subject"], "shown")
        headers = {"content-disposition": 'attachment; filename="body"'}
        return Response(row["body"], media_type="application/octet-stream", headers=headers)

    async def list_unattributed(self, request: Request) -> Response:
        """Events that fit no recipient, or several, with the reason. Oldest first."""
        limit, after = LIMIT.read(request), AFTER.read(request)
        page = self._database.queries.list_unattributed(self._database.pool, after=after, limit=limit + 1)
        return JsonResponse(
            to_page([_show(Unattributed, wording.UNATTRIBUTED, row) async for row in page], limit, "arrival_id")
        )

    async def list_contradictions(self, request: Request) -> Response:
        """Events whose reference and phone name different people. They count where the reference says. Oldest first."""
        limit, after = LIMIT.read(request), AFTER.read(request)
        page = self._database.queries.list_contradictions(self._database.pool, after=after, limit=limit + 1)
        return JsonResponse(to_page([Contradiction(**row) async for row in page], limit, "arrival_id"))

    async def list_quarantine(self, request: Request) -> Response:
        """Signed bodies that cannot be used, with the reason. Oldest first."""
        limit, after = LIMIT.read(request), AFTER.read(request)
        page = self._database.queries.list_quarantine(self._database.pool, after=after, limit=limit + 1)
        return JsonResponse(
            to_page([_show(Quarantined, wording.QUARANTINED, row) async for row in page], limit, "quarantine_id")
        )

    async def replay(self, request: Request) -> Response:
        """Processes a quarantined body again. 400 when it still cannot be used; it then stays in quarantine."""
        quarantine_id = QUARANTINE_ID.read(request)
        event_id = await self._replayer.replay(quarantine_id)
        if event_id is None:
            raise InvalidRequestError(
                f"Quarantined body {quarantine_id} still cannot be used and stays: GET /v1/quarantine shows the reason"
            )
        return JsonResponse(One(Replayed(quarantine_id, event_id)))


def _show(kind: type[T], words: dict[str, wording.Words], row: asyncpg.Record) -> T:
    return kind(**row, reason_text=wording.describe(words, row["reason"]))
