"""Uploads over HTTP: a CSV checked and sent to the provider, or only checked; and the promotion of a test batch."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.errors import ConflictError, DuplicateRequestError, KeyReusedError, NotFoundError, ProviderError
from service.formant.batches import ProviderBatch
from service.outcomes.http import BATCH_ID
from service.uploads.dry_runs import DryRuns
from service.uploads.dry_runs_http import DryRun, read_chunks, show_checked
from service.uploads.fields import AGENT_ID, DRY_RUN, FIELDS, IDEMPOTENCY_KEY, NAME, receive_upload
from service.uploads.report import FileSummary
from service.uploads.storing import Uploaded
from service.uploads.uploader import Uploader
from service.web.operations import Answer, Form, Operation
from service.web.parameters import refuse_body, refuse_fields_in_headers
from service.web.responses import JsonResponse, One

CHECKED = tuple(field for field in FIELDS if field is not DRY_RUN)


class UploadedBatch(ProviderBatch, kw_only=True):
    """A batch as the provider answered it, and the upload that it comes from."""

    upload_id: int
    """Its number in ``GET /v1/uploads``."""
    file: FileSummary | None
    """What was found in the file; null for an upload of an earlier version."""
    withdrawn: int
    """Recipients who were taken out of the batch since the file was checked, because they must not be called."""


class Uploads:
    """Handlers of ``/v1/batch-call`` and ``/v1/batch-calls/{batch_id}/promote``."""

    def __init__(self, uploader: Uploader, dry_runs: DryRuns) -> None:
        self._uploader = uploader
        self._dry_runs = dry_runs

    def operations(self) -> list[Operation]:
        replayed = ("Idempotency-Replayed", "`true`: the answer to an earlier request with the same key")
        return [
            Operation(
                "POST", "/v1/batch-call", self.upload, "upload", "Uploads",
                parameters=(IDEMPOTENCY_KEY,),
                bodies=(Form(FIELDS, needed=(AGENT_ID, NAME)),),
                answers=(
                    Answer(One[UploadedBatch], "The batch, as the provider answered it", headers=(replayed,)),
                    Answer(One[DryRun], "With `dry_run`: the report on the file"),
                ),
                errors=(DuplicateRequestError, KeyReusedError, ConflictError, ProviderError), is_tolerant=True,
            ),
            Operation(
                "POST", "/v1/batch-call/rejected.csv", self.download_rejected, "upload", "Uploads", parameters=(),
                bodies=(Form(CHECKED, needed=(AGENT_ID, NAME)),),
                answers=(Answer(str, "A CSV in UTF-8", media_type="text/csv"),), errors=(NotFoundError,),
                download="rejected rows of a file",
            ),
            Operation(
                "POST", "/v1/batch-call/duplicates.csv", self.download_duplicates, "upload", "Uploads", parameters=(),
                bodies=(Form(CHECKED, needed=(AGENT_ID, NAME)),),
                answers=(Answer(str, "A CSV in UTF-8", media_type="text/csv"),), errors=(NotFoundError,),
                download="repeated rows of a file",
            ),
            Operation(
                "POST", "/v1/batch-calls/{batch_id}/promote", self.promote, "upload", "Uploads",
                parameters=(BATCH_ID,),
                answers=(Answer(One[UploadedBatch], "The batch that the rest became"),),
                errors=(ConflictError, ProviderError),
            ),
        ]  # fmt: skip

    async def upload(self, request: Request) -> Response:
        """Sends a CSV to the provider and returns its answer. With ``dry_run`` it only returns a report on the file."""
        async with receive_upload(request) as (fields, asked):
            if fields.read(DRY_RUN):
                return JsonResponse(One(show_checked(asked, await self._dry_runs.check(asked))))
            uploaded = await self._uploader.upload(asked)
        headers = {"idempotency-replayed": "true"} if uploaded.is_repeated else {}
        return JsonResponse(One(_show(uploaded)), headers=headers)

    async def download_rejected(self, request: Request) -> Response:
        """Checks a file like a dry run, and answers its rows with errors, each with its ``outcome_error``. Correct
        them, and upload the file. Nothing is stored or sent."""
        return await self._give_back(request, are_repeats=False)

    async def download_duplicates(self, request: Request) -> Response:
        """Checks a file like a dry run, and answers the rows whose person another row has, each with the line of that
        row. Nothing is stored or sent."""
        return await self._give_back(request, are_repeats=True)

    async def _give_back(self, request: Request, *, are_repeats: bool) -> Response:
        async with receive_upload(request) as (_, asked):
            file = await self._dry_runs.open_rejected(asked, are_repeats=are_repeats)
        name = "duplicates.csv" if are_repeats else "rejected.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(read_chunks(file), media_type="text/csv; charset=utf-8", headers=headers)

    async def promote(self, request: Request) -> Response:
        """Sends the rest of a test batch's file, once. Returns the batch that it became. Takes no body."""
        refuse_fields_in_headers(request, FIELDS)
        await refuse_body(request, "a promotion takes none, and calls the rest for real: send it empty")
        return JsonResponse(One(_show(await self._uploader.promote(BATCH_ID.read(request)))))


def _show(uploaded: Uploaded) -> UploadedBatch:
    batch = msgspec.structs.asdict(uploaded.batch)
    return UploadedBatch(**batch, upload_id=uploaded.upload_id, file=uploaded.summary, withdrawn=uploaded.withdrawn)
