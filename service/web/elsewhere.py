"""Batches made elsewhere over HTTP: one that is asked for by its id, and the registration of its CSV."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from service.batches.discovery import Discoverer
from service.batches.registration import Registrar
from service.errors import BodyTooLargeError, InvalidRequestError
from service.web.auth import Authenticator
from service.web.batches import MAX_FILE_BYTES, Batches
from service.web.json import JsonResponse
from service.web.parameters import read_id

_MEMORY_BYTES = 2**20
_TOO_LARGE = f"file: is over {MAX_FILE_BYTES} bytes"


class Elsewhere:
    """Handlers of ``GET /v1/batch-calls/{batch_id}`` and ``PUT /v1/batch-calls/{batch_id}/recipients``."""

    def __init__(
        self, authenticator: Authenticator, batches: Batches, discoverer: Discoverer, registrar: Registrar
    ) -> None:
        self._authenticator = authenticator
        self._batches = batches
        self._discoverer = discoverer
        self._registrar = registrar

    async def get_batch(self, request: Request) -> Response:
        """One batch in the provider's shape; one that is not known here is asked for there."""
        self._authenticator.require(request)
        await self._discoverer.require(read_id(request, "batch_id", "batch"))
        return await self._batches.get(request)

    async def register(self, request: Request) -> Response:
        """Registers a CSV; answers when everything that follows from it is done."""
        self._authenticator.require(request)
        batch_id = read_id(request, "batch_id", "batch")
        force = request.query_params.get("force", "false")
        if force not in {"true", "false"}:
            raise InvalidRequestError("force: takes true or false")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MAX_FILE_BYTES + 2**16:
            raise BodyTooLargeError(_TOO_LARGE)
        async with _open_file(request) as file:
            await self._discoverer.require(batch_id)
            counts = await self._registrar.register(batch_id, file, force=force == "true")
        return JsonResponse({"data": counts})


@asynccontextmanager
async def _open_file(request: Request) -> AsyncIterator[BinaryIO]:
    """The CSV, sent as a form's part ``file`` or as the body itself."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=10) as form:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise InvalidRequestError("file: is missing; send the CSV as a file part (curl: -F file=@contacts.csv)")
            if part.size and part.size > MAX_FILE_BYTES:
                raise BodyTooLargeError(_TOO_LARGE)
            yield part.file
        return
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as body:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise BodyTooLargeError(_TOO_LARGE)
            body.write(chunk)
        if size == 0:
            raise InvalidRequestError("file: is missing; send the CSV as the body or as a part named file")
        body.seek(0)
        yield cast("BinaryIO", body)
