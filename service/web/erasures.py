"""Erasure of a person over HTTP."""

import asyncio
from typing import Any, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.batches.phones import PhoneError, normalise_phone
from service.errors import InvalidRequestError
from service.privacy.erasure import Eraser
from service.web.answers import One, Time
from service.web.declarations import Flag, Id
from service.web.json import JsonResponse
from service.web.operations import Answer, Json, Operation

MAX_BODY_BYTES = 1000
WAIT_SECONDS = 8.0


DRY_RUN = Flag("dry_run", "Only count")
ERASURE_ID = Id("erasure_id", "erasure", "Its number, from the answer to the request")


class Person(msgspec.Struct, forbid_unknown_fields=True):
    """Who is to be erased."""

    phone: str
    dry_run: bool = False


class Erasure(TypedDict):
    """How far an erasure has come: counts, and nothing that tells who it is."""

    state: str
    """``running`` or ``done``."""
    erasure_id: int
    person: str
    """A part of the hash of the phone: the same for the same person."""
    requested_at: Time
    finished_at: Time | None
    recipients: int
    bodies: int
    unattributed: int
    quarantined: int
    held_rows: int


class Erasures:
    """Handlers of ``/v1/erasures``."""

    def __init__(self, eraser: Eraser, *, default_region: str) -> None:
        self._eraser = eraser
        self._default_region = default_region

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "POST", "/v1/erasures", self.erase, "admin", "Privacy and access",
                parameters=(DRY_RUN,),
                bodies=(Json(Person),),
                answers=(
                    Answer(One[Erasure], "It is done"),
                    Answer(One[dict[str, Any]], "With `dry_run`: how much would be taken out"),
                    Answer(One[Erasure], "It goes on behind", 202),
                ),
            ),
            Operation(
                "GET", "/v1/erasures/{erasure_id}", self.get_erasure, "admin", "Privacy and access",
                parameters=(ERASURE_ID,),
                answers=(Answer(One[Erasure]),),
            ),
        ]  # fmt: skip

    async def erase(self, request: Request) -> Response:
        """Erases ``{"phone": "+91…"}``: 200 when it is done, 202 when it goes on behind. ``dry_run`` only counts."""
        only_counts = DRY_RUN.read(request)
        person = await _read_person(request)
        try:
            phone = normalise_phone(person.phone, self._default_region)
        except PhoneError as error:
            raise InvalidRequestError(f"phone: {error.problem}: {error.remedy}") from error
        if person.dry_run or only_counts:
            return JsonResponse({"data": {"state": "dry_run", **await self._eraser.preview(phone)}})
        erasure_id = await self._eraser.begin(phone)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                # Shielded: whoever asked may hang up, and it is done all the same.
                shown = await asyncio.shield(self._eraser.finish(erasure_id))
        except TimeoutError:
            shown = await self._eraser.read(erasure_id)
        return JsonResponse({"data": shown}, status_code=200 if shown["state"] == "done" else 202)

    async def get_erasure(self, request: Request) -> Response:
        """How far an erasure has come."""
        return JsonResponse({"data": await self._eraser.read(ERASURE_ID.read(request))})


async def _read_person(request: Request) -> Person:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    try:
        return msgspec.json.decode(bytes(body), type=Person)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError('Send JSON: {"phone": "+919876543210"}, and "dry_run": true to count only') from error
