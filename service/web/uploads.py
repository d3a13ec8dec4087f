"""Uploads over HTTP: a CSV taken to the provider, checked only, promoted; their states, and a person's word on them."""

import re
from typing import Any, cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.batches.lookup import UploadFinder
from service.batches.report import Duplicates
from service.batches.requests import UploadRequest
from service.batches.uploads import Uploader
from service.errors import InvalidRequestError, NotFoundError
from service.store.database import Database
from service.web.files import ReceivedFile, keep_file, receive_form
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import Fields, read_id, read_number

MAX_NAME_CHARACTERS = 200
MAX_AGENT_ID = 2**63 - 1
MAX_ROWS = 10**7
UPLOAD_STATES = ("preparing", "prepared", "held", "uploading", "uploaded", "unknown", "failed")
_KEY = re.compile(r'"([ !#-~]{1,255})"|([!#-~]{1,255})')


class _Resolution(msgspec.Struct, forbid_unknown_fields=True):
    batch_id: int | None = None
    not_sent: bool = False


class Uploads:
    """Handlers of ``/v1/batch-call``, ``/v1/uploads`` and ``/v1/batch-calls/{id}/promote``."""

    def __init__(self, database: Database, uploader: Uploader, finder: UploadFinder) -> None:
        self._database = database
        self._uploader = uploader
        self._finder = finder

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/batch-call", self.upload, "upload"),
            Operation("POST", "/v1/batch-calls/{batch_id}/promote", self.promote, "upload"),
            Operation("GET", "/v1/uploads", self.list, "read"),
            Operation("GET", "/v1/uploads/{upload_id}", self.get, "read"),
            Operation("POST", "/v1/uploads/{upload_id}/resolve", self.resolve, "upload"),
        ]

    async def upload(self, request: Request) -> Response:
        """Takes a CSV to the provider; answers as the provider does. With ``dry_run`` it only answers the report."""
        async with receive_form(request) as form, keep_file(form) as file:
            fields = Fields(form, request.query_params)
            asked = _read_request(request, fields, file)
            if fields.read_flag("dry_run"):
                report, refusal = await self._uploader.check(asked)
                is_valid = refusal is None and not report.error_count
                data = {"valid": is_valid, "columns_refused": refusal} | msgspec.structs.asdict(report)
                del data["part_counts"]
                return JsonResponse({"data": data})
            batch, is_repeated = await self._uploader.upload(asked)
        headers = {"idempotency-replayed": "true"} if is_repeated else {}
        return JsonResponse({"data": batch}, headers=headers)

    async def promote(self, request: Request) -> Response:
        """Sends the rest of a test batch's file; answers the batch that it became."""
        return JsonResponse({"data": await self._uploader.promote(read_id(request, "batch_id", "batch"))})

    async def list(self, request: Request) -> Response:
        """Uploads with their state: where to look for one whose answer was lost."""
        limit = read_number(request, "limit", 20, minimum=1, maximum=100)
        before = read_number(request, "after", 2**62, minimum=1, maximum=2**62)
        state = request.query_params.get("state")
        if state is not None and state not in UPLOAD_STATES:
            raise InvalidRequestError(f"state: takes one of {', '.join(UPLOAD_STATES)}")
        page = self._database.queries.list_uploads(self._database.pool, state=state, before=before, limit=limit + 1)
        rows = [dict(row) async for row in page]
        has_more = len(rows) > limit
        rows = rows[:limit]
        return JsonResponse({"data": rows, "next": rows[-1]["upload_id"] if has_more else None, "has_more": has_more})

    async def get(self, request: Request) -> Response:
        """One upload: its state, and how far it is."""
        return JsonResponse({"data": await self._read(read_id(request, "upload_id", "upload"))})

    async def resolve(self, request: Request) -> Response:
        """A person's word on an unknown upload: ``{"batch_id": 456}`` or ``{"not_sent": true}``."""
        upload_id = read_id(request, "upload_id", "upload")
        try:
            word = msgspec.json.decode(await request.body(), type=_Resolution)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            word = _Resolution()
        if (word.batch_id is None) == (not word.not_sent):
            raise InvalidRequestError('Send JSON with either {"batch_id": 456} or {"not_sent": true}')
        await self._finder.resolve(upload_id, word.batch_id)
        return JsonResponse({"data": await self._read(upload_id)})

    async def _read(self, upload_id: int) -> dict[str, Any]:
        row = await self._database.queries.get_upload(self._database.pool, batch_key=upload_id)
        if row is None:
            raise NotFoundError(f"There is no upload {upload_id}")
        return dict(row)


def _read_request(request: Request, fields: Fields, file: ReceivedFile) -> UploadRequest:
    test_recipients = fields.read_number("test_recipients", 0, minimum=0, maximum=MAX_ROWS)
    promote_at = fields.read_percent("promote_at_success_rate")
    if promote_at is not None and not test_recipients:
        raise InvalidRequestError("promote_at_success_rate: needs test_recipients=N, the batch that it is measured by")
    return UploadRequest(
        agent_id=_read_agent_id(fields.read_text("agent_id")),
        name=_read_name(fields.read_text("name"), MAX_NAME_CHARACTERS - (len(" (test)") if test_recipients else 0)),
        file_name=file.name,
        path=file.path,
        file_digest=file.digest,
        duplicates=cast(Duplicates, fields.read_choice("duplicates", get_args(Duplicates))),
        accept_columns=fields.read_flag("accept_columns"),
        force=fields.read_flag("force"),
        idempotency_key=_read_idempotency_key(request),
        test_recipients=test_recipients,
        promote_at_success_rate=promote_at,
    )


def _read_idempotency_key(request: Request) -> str | None:
    """The header of draft-ietf-httpapi-idempotency-key-header: a quoted string; a bare one is taken too."""
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    match = _KEY.fullmatch(value.strip())
    if match is None:
        raise InvalidRequestError("Idempotency-Key: takes 1 to 255 printable characters in quotes, such as a UUID")
    return match[1] or match[2]


def _read_agent_id(value: str) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 19) or int(text) > MAX_AGENT_ID:
        raise InvalidRequestError("agent_id: is missing or no whole number")
    return int(text)


def _read_name(value: str, maximum: int) -> str:
    name = value.strip()
    if not name or len(name) > maximum or "\x00" in name:
        raise InvalidRequestError(f"name: takes 1 to {maximum} characters")
    return name
