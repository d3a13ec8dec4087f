"""The states of uploads over HTTP, and the manual resolution of unknown ones."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated

import asyncpg
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError, ProviderError
from service.store.database import Database
from service.telemetry.context import current_actor
from service.uploads.dry_runs import explain_none
from service.uploads.guarding import guard
from service.uploads.report import ERROR_COLUMN, FileSummary, read_summary
from service.uploads.resolution import Resolver
from service.uploads.writers import write_line
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Choice, Id, Number, read_json
from service.web.responses import JsonResponse, One, Page, Time, to_page
from service.web.scopes import allows, granted_scopes

UPLOAD_STATES = ("preparing", "prepared", "held", "uploading", "uploaded", "unknown", "failed")
UPLOAD_ID = Id("upload_id", "upload", "The upload's number, from `GET /v1/uploads`")
STATE = Choice("state", "Only uploads in this state", UPLOAD_STATES, default=None)
LIMIT = Number("limit", "Maximum number of uploads", default=20, minimum=1, maximum=100)
BEFORE = Number("after", "Uploads after this one: `next` of the previous page", default=None, minimum=1, maximum=2**62)


class Upload(msgspec.Struct):
    """An upload and its progress."""

    upload_id: int
    state: Annotated[str, Meta(extra_json_schema={"enum": [*UPLOAD_STATES]})]
    """``unknown``: sent without an answer; looked up in the provider's list, never sent again. ``held``: waits for its
    promotion."""
    detail: str | None
    """Why it is in that state, where that is known."""
    batch_id: int | None
    """The provider's id, once it is known."""
    agent_id: int
    name: str
    recipients: int
    """Without those who are withdrawn."""
    withdrawn: int
    """Recipients who were taken out since the file was checked, such as people who were suppressed."""
    rows_checked: int | None
    campaign_id: int | None
    campaign_role: str | None
    """``test`` or ``main``."""
    promote_at_success_rate: Annotated[Decimal | None, Meta(extra={"shape": float | None})]
    promote_at_goal_rate: Annotated[Decimal | None, Meta(extra={"shape": float | None})]
    prepared_at: Time
    sent_at: Time | None
    changed_at: Time
    lookups: int
    """Lookups in the provider's list so far."""
    next_lookup_at: Time | None
    withheld_batches: list[int]
    """Listed batches that are not shown, because they may be this upload while it is ``unknown``."""
    file: FileSummary | None
    """What was found in its file; null until it is checked."""


RESOLUTIONS = '{"batch_id": 456} or {"not_sent": true}'
MAX_DENIED = 1000
REJECTED_ROWS = 1000


class Candidate(msgspec.Struct):
    """A batch of the provider's list that an unknown upload could be. Null: the provider does not say."""

    batch_id: int
    name: str | None
    recipients: int | None
    created_at: Time | None


class UploadEvidence(msgspec.Struct):
    """What speaks for and against an unknown upload having been sent."""

    candidates: list[Candidate]
    unreadable_entries: int
    """Entries of the provider's list that cannot be read and could be it."""
    has_calls: bool
    """Whether its people have been called since."""
    is_known_sent: bool
    """Whether webhooks with its references have come in: it was sent, whatever anyone says."""


class Resolution(msgspec.Struct, forbid_unknown_fields=True):
    """The manual resolution of an unknown upload: the batch that it became, or that it was never sent."""

    batch_id: int | None = None
    accept_difference: bool = False
    """With ``batch_id``: accept that the provider counts another number of recipients."""
    not_sent: bool = False
    not_these: Annotated[list[int], Meta(max_length=MAX_DENIED)] | None = None
    """With ``not_sent``: all batches that could be it, as the 409 lists them; none of them is it."""
    accept_unreadable: bool = False
    """With ``not_sent``: by the provider's dashboard, no unreadable entry of the provider's list is it either."""


class UploadStates:
    """Handlers of ``/v1/uploads``."""

    def __init__(self, database: Database, resolver: Resolver) -> None:
        self._database = database
        self._resolver = resolver

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/uploads", self.list, "read", "Uploads",
                parameters=(STATE, LIMIT, BEFORE), answers=(Answer(Page[Upload]),),
            ),
            Operation(
                "GET", "/v1/uploads/{upload_id}", self.get, "read", "Uploads",
                parameters=(UPLOAD_ID,), answers=(Answer(One[Upload]),),
            ),
            Operation(
                "GET", "/v1/uploads/{upload_id}/rejected.csv", self.download_rejected, "upload", "Uploads",
                parameters=(UPLOAD_ID,), answers=(Answer(str, "A CSV in UTF-8", media_type="text/csv"),),
                download="rejected rows",
            ),
            Operation(
                "GET", "/v1/uploads/{upload_id}/duplicates.csv", self.download_duplicates, "upload", "Uploads",
                parameters=(UPLOAD_ID,), answers=(Answer(str, "A CSV in UTF-8", media_type="text/csv"),),
                download="repeated rows",
            ),
            Operation(
                "GET", "/v1/uploads/{upload_id}/evidence", self.get_evidence, "upload", "Uploads",
                parameters=(UPLOAD_ID,), answers=(Answer(One[UploadEvidence]),), errors=(ConflictError, ProviderError),
            ),
            Operation(
                "POST", "/v1/uploads/{upload_id}/resolve", self.resolve, "upload", "Uploads",
                parameters=(UPLOAD_ID,),
                bodies=(Json(Resolution, f"Either `{RESOLUTIONS.replace(' or ', '` or `')}`"),),
                answers=(Answer(One[Upload]),), errors=(ConflictError, ProviderError),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """Uploads with their state, newest first. An upload whose answer was lost is ``unknown``."""
        limit, before, state = LIMIT.read(request), BEFORE.read(request) or 2**62, STATE.read(request)
        page = self._database.queries.list_uploads(self._database.pool, state=state, before=before, limit=limit + 1)
        return JsonResponse(to_page([_to_upload(row) async for row in page], limit, "upload_id"))

    async def get(self, request: Request) -> Response:
        """One upload: its state and progress."""
        return JsonResponse(One(await self._read(UPLOAD_ID.read(request))))

    async def download_rejected(self, request: Request) -> Response:
        """The rows with errors that an upload with ``invalid=skip`` left out, each with its ``outcome_error``. Correct
        them, and upload the file. They are given to the key that made the upload, and to those with ``people`` too. The
        rows are deleted after 30 days."""
        return await self._give_back(request, are_repeats=False)

    async def download_duplicates(self, request: Request) -> Response:
        """The rows that an upload left out because another row has their person, each with the line of that row. They
        are given to the key that made the upload, and to those with ``people`` too. The rows are deleted after 30
        days."""
        return await self._give_back(request, are_repeats=True)

    async def _give_back(self, request: Request, *, are_repeats: bool) -> Response:
        upload_id = UPLOAD_ID.read(request)
        file = await self._database.queries.get_upload_file(self._database.pool, batch_key=upload_id)
        _require_owner(request, file)
        lines = self._list_rejected(upload_id, are_repeats=are_repeats)
        first = await anext(lines, None)
        if file is None or first is None:
            reason = explain_none(are_repeats=are_repeats)
            raise NotFoundError(f"Upload {upload_id}: {reason[:1].lower()}{reason[1:]}, or the rows were deleted since")

        async def write() -> AsyncIterator[str]:
            yield "\ufeff" + write_line([*map(guard, file["columns"]), ERROR_COLUMN])
            yield first
            async for line in lines:
                yield line

        name = f"upload-{upload_id}-{'duplicates' if are_repeats else 'rejected'}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(write(), media_type="text/csv; charset=utf-8", headers=headers)

    async def _list_rejected(self, upload_id: int, *, are_repeats: bool) -> AsyncIterator[str]:
        after = 0
        while True:
            rows = [
                row
                async for row in self._database.queries.list_rejected_rows(
                    self._database.pool, batch_key=upload_id, are_repeats=are_repeats, after=after, limit=REJECTED_ROWS
                )
            ]
            for row in rows:
                yield row["line"]
            if len(rows) < REJECTED_ROWS:
                return
            after = rows[-1]["row_no"]

    async def get_evidence(self, request: Request) -> Response:
        """The evidence on an unknown upload, from the provider's list, its conversations and webhooks: what to know
        before it is resolved."""
        found = await self._resolver.find_evidence(UPLOAD_ID.read(request))
        candidates = [Candidate(each.id, each.name, each.recipients, each.created_at) for each in found.candidates]
        return JsonResponse(One(UploadEvidence(candidates, found.unreadable, found.has_calls, found.is_known_sent)))

    async def resolve(self, request: Request) -> Response:
        """Resolves an unknown upload by hand. 409 where the evidence is against it, with what could be it."""
        upload_id = UPLOAD_ID.read(request)
        decision = await read_json(request, Resolution, RESOLUTIONS)
        if (decision.batch_id is None) == (not decision.not_sent):
            raise InvalidRequestError(f"Send JSON with either {RESOLUTIONS}")
        if decision.accept_difference and decision.batch_id is None:
            raise InvalidRequestError("accept_difference: goes with batch_id")
        if decision.not_these is not None and not decision.not_sent:
            raise InvalidRequestError("not_these: goes with not_sent")
        if decision.accept_unreadable and not decision.not_sent:
            raise InvalidRequestError("accept_unreadable: goes with not_sent")
        if decision.batch_id is not None:
            await self._resolver.adopt(upload_id, decision.batch_id, accept_difference=decision.accept_difference)
        else:
            await self._resolver.declare_not_sent(
                upload_id, decision.not_these, accept_unreadable=decision.accept_unreadable
            )
        return JsonResponse(One(await self._read(upload_id)))

    async def _read(self, upload_id: int) -> Upload:
        row = await self._database.queries.get_upload(self._database.pool, batch_key=upload_id)
        if row is None:
            raise NotFoundError(f"There is no upload {upload_id}")
        return _to_upload(row)


def _require_owner(request: Request, file: asyncpg.Record | None) -> None:
    """Raises PermissionDeniedError unless the upload is of this key, or the key may see people. An upload that does not
    exist is refused alike, so that nobody learns which do."""
    actor = current_actor()
    is_own = file is not None and (file["actor"], file["key_id"]) == (actor.name, actor.key_id)
    if not is_own and not allows(granted_scopes(request), "people"):
        raise PermissionDeniedError(
            "The rows of an upload are given to the key that made it. For those of other uploads, the scope 'people' "
            f"is needed too; yours: {', '.join(granted_scopes(request))}"
        )


def _to_upload(row: asyncpg.Record) -> Upload:
    return Upload(**{**row, "file": read_summary(row["file"])})
