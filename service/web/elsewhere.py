"""Batches made elsewhere over HTTP: one that is asked for by its id, and the registration of its CSV."""

from starlette.requests import Request
from starlette.responses import Response

from service.batches.discovery import Discoverer
from service.batches.registration import Registrar
from service.web.batches import Batches
from service.web.files import receive_file
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_flag, read_id


class Elsewhere:
    """Handlers of ``GET /v1/batch-calls/{batch_id}`` and ``PUT /v1/batch-calls/{batch_id}/recipients``."""

    def __init__(self, batches: Batches, discoverer: Discoverer, registrar: Registrar) -> None:
        self._batches = batches
        self._discoverer = discoverer
        self._registrar = registrar

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/batch-calls/{batch_id}", self.get_batch, "read"),
            Operation("PUT", "/v1/batch-calls/{batch_id}/recipients", self.register, "upload"),
        ]

    async def get_batch(self, request: Request) -> Response:
        """One batch in the provider's shape; one that is not known here is asked for there."""
        await self._discoverer.require(read_id(request, "batch_id", "batch"))
        return await self._batches.get(request)

    async def register(self, request: Request) -> Response:
        """Registers a CSV; answers when everything that follows from it is done."""
        batch_id = read_id(request, "batch_id", "batch")
        force = read_flag(request, "force")
        async with receive_file(request) as file:
            await self._discoverer.require(batch_id)
            counts = await self._registrar.register(batch_id, file.path, file.digest, force=force)
        return JsonResponse({"data": counts})
