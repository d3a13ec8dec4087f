"""Erasure of a person over HTTP."""

import asyncio
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.phones.canonical import require_phone
from service.phones.parsing import PhoneError
from service.privacy.erasure import Eraser
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, Number, read_json
from service.web.responses import JsonResponse, One, Page, Time, to_page

WAIT_SECONDS = 8.0
STEPS = ("recipients", "unattributed", "quarantine", "held", "bodies", "late", "done")
LIMIT = Number("limit", "Maximum number of erasures", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the previous page", default=2**62, minimum=1, maximum=2**62)
ERASURE_ID = Id("erasure_id", "erasure", "The id from the answer to `POST /v1/erasures`")


class Person(msgspec.Struct, forbid_unknown_fields=True):
    """The person to erase."""

    phone: str
    """In E.164 or any other spelling. A national number needs OUTCOMES_DEFAULT_REGION, or targets of one region."""
    dry_run: bool = False
    """Only count; erase nothing."""


class Erasure(msgspec.Struct):
    """The progress of an erasure, and what it removed; for a dry run, what it would remove, as far as indexes show."""

    state: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["running", "done", "dry_run"]})]
    recipients: int
    unattributed: int
    held_rows: int
    """Rows of files that are held for a promotion."""
    erasure_id: int | None = None
    person: str | None = None
    """A keyed hash: the same for the same person. It reveals nothing else."""
    requested_at: Time | None = None
    finished_at: Time | None = None
    attempts: int | None = None
    """Only for a dry run."""
    bodies: int | None = None
    """Bodies deleted."""
    bodies_read: int | None = None
    """Bodies of any person, searched for this one."""
    step: Annotated[str | None, msgspec.Meta(extra_json_schema={"enum": [*STEPS, None]})] = None
    """The current step: recipients, unattributed events, quarantine, held files, all other bodies, late events."""
    quarantined: int | None = None


class Erasures:
    """Handlers of ``/v1/erasures``."""

    def __init__(self, eraser: Eraser, *, region: str) -> None:
        self._eraser = eraser
        self._region = region

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "POST", "/v1/erasures", self.erase, "admin", "Privacy",
                parameters=(), bodies=(Json(Person, 'Such as `{"phone": "+919876543210"}`'),),
                answers=(
                    Answer(One[Erasure], "Done; with `dry_run`: counted"),
                    Answer(One[Erasure], "It continues in the background", 202),
                ),
                errors=(InvalidRequestError,),
            ),
            Operation(
                "GET", "/v1/erasures", self.list_erasures, "admin", "Privacy",
                parameters=(LIMIT, AFTER), answers=(Answer(Page[Erasure]),),
            ),
            Operation(
                "GET", "/v1/erasures/{erasure_id}", self.get_erasure, "admin", "Privacy",
                parameters=(ERASURE_ID,), answers=(Answer(One[Erasure]),),
            ),
        ]  # fmt: skip

    async def erase(self, request: Request) -> Response:
        """Erases a person: 200 when done, 202 while it continues in the background. ``dry_run`` only counts."""
        person = await read_json(request, Person, '{"phone": "+919876543210"}')
        try:
            phone = require_phone(person.phone, self._region)
        except PhoneError as error:
            raise InvalidRequestError(f"phone: {error.problem}: {error.remedy}") from error
        if person.dry_run:
            return JsonResponse(One(Erasure("dry_run", **await self._eraser.preview(phone))))
        erasure_id = await self._eraser.begin(phone)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                # Shielded: the erasure continues when the client disconnects.
                shown = await asyncio.shield(self._eraser.finish(erasure_id))
        except TimeoutError:
            shown = await self._eraser.read(erasure_id)
        return JsonResponse(One(Erasure(**shown)), status_code=200 if shown["state"] == "done" else 202)

    async def list_erasures(self, request: Request) -> Response:
        """All erasures with their progress, newest first, without the people."""
        limit, before = LIMIT.read(request), AFTER.read(request)
        rows = [Erasure(**shown) for shown in await self._eraser.list(before, limit + 1)]
        return JsonResponse(to_page(rows, limit, "erasure_id"))

    async def get_erasure(self, request: Request) -> Response:
        """The progress of an erasure."""
        return JsonResponse(One(Erasure(**await self._eraser.read(ERASURE_ID.read(request)))))
