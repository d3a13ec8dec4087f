"""Batches of the provider's dashboard over HTTP: one batch by its id, and the registration of its CSV."""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import ConflictError, ProviderError
from service.outcomes.http import BATCH_ID, Batch, Batches
from service.uploads.discovery import Discoverer
from service.uploads.files import receive_file
from service.uploads.registration import Registrar, Registration
from service.web.operations import Answer, File, Form, Operation
from service.web.parameters import Flag
from service.web.responses import JsonResponse, One

FORCE = Flag("force", "Register the file even if the provider counts another number of recipients")


class Registrations:
    """Handlers of ``GET /v1/batch-calls/{batch_id}`` and ``PUT /v1/batch-calls/{batch_id}/recipients``."""

    def __init__(self, batches: Batches, discoverer: Discoverer, registrar: Registrar) -> None:
        self._batches = batches
        self._discoverer = discoverer
        self._registrar = registrar

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}", self.get_batch, "read", "Batches",
                parameters=(BATCH_ID,), answers=(Answer(One[Batch]),), errors=(ProviderError,),
                is_tolerant=True,
            ),
            Operation(
                "PUT", "/v1/batch-calls/{batch_id}/recipients", self.register, "upload", "Batches",
                parameters=(BATCH_ID, FORCE), bodies=(Form(), File("The CSV that the batch was made with")),
                answers=(Answer(One[Registration]),), errors=(ConflictError, ProviderError),
            ),
        ]  # fmt: skip

    async def get_batch(self, request: Request) -> Response:
        """One batch in the provider's shape. An unknown one is requested from the provider."""
        await self._discoverer.require(BATCH_ID.read(request))
        return await self._batches.get(request)

    async def register(self, request: Request) -> Response:
        """Registers the CSV of a batch made in the provider's dashboard. Returns once all its effects are stored; the
        same file again is harmless."""
        batch_id = BATCH_ID.read(request)
        force = FORCE.read(request)
        async with receive_file(request) as (file, _):
            await self._discoverer.require(batch_id)
            counts = await self._registrar.register(batch_id, file.path, file.digest, force=force)
        return JsonResponse(One(counts))
