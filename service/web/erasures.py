"""Erasure of a person over HTTP."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.batches.phones import PhoneError, normalise_phone
from service.errors import InvalidRequestError
from service.privacy.erasure import Eraser
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_flag, read_id

MAX_BODY_BYTES = 1000
WAIT_SECONDS = 8.0


class _Person(msgspec.Struct, forbid_unknown_fields=True):
    phone: str
    dry_run: bool = False


class Erasures:
    """Handlers of ``/v1/erasures``."""

    def __init__(self, eraser: Eraser, *, default_region: str) -> None:
        self._eraser = eraser
        self._default_region = default_region

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/erasures", self.erase, "admin"),
            Operation("GET", "/v1/erasures/{erasure_id}", self.get_erasure, "admin"),
        ]

    async def erase(self, request: Request) -> Response:
        """Erases ``{"phone": "+91…"}``: 200 when it is done, 202 when it goes on behind. ``dry_run`` only counts."""
        person = await _read_person(request)
        try:
            phone = normalise_phone(person.phone, self._default_region)
        except PhoneError as error:
            raise InvalidRequestError(f"phone: {error.problem}: {error.remedy}") from error
        if person.dry_run or read_flag(request, "dry_run"):
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
        return JsonResponse({"data": await self._eraser.read(read_id(request, "erasure_id", "erasure"))})


async def _read_person(request: Request) -> _Person:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    try:
        return msgspec.json.decode(bytes(body), type=_Person)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError('Send JSON: {"phone": "+919876543210"}, and "dry_run": true to count only') from error
