"""Batches over HTTP, in the provider's own paths and shapes, and the outcomes of one."""

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from service.batches.uploads import Uploader
from service.errors import BodyTooLargeError, InvalidRequestError, NotFoundError
from service.outcomes.summary import Counts, read_counts, summarise, to_provider_metrics
from service.store.database import Database
from service.web.auth import Authenticator
from service.web.json import JsonResponse
from service.web.parameters import read_id, read_number, read_optional_number, read_time_zone

MAX_FILE_BYTES = 100 * 2**20
MAX_NAME_CHARACTERS = 200
MAX_OFFSET = 2**31 - 1
MAX_AGENT_ID = 2**63 - 1
UPLOAD_STATES = ("prepared", "uploading", "uploaded", "unknown", "failed")


class Batches:
    """Handlers of ``/v1/batch-call``, ``/v1/batch-calls`` and ``/v1/uploads``."""

    def __init__(
        self, database: Database, authenticator: Authenticator, uploader: Uploader, *, default_time_zone: str
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._uploader = uploader
        self._default_time_zone = default_time_zone

    async def upload(self, request: Request) -> Response:
        """Takes a CSV to the provider; answers as the provider does."""
        self._authenticator.require(request)
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MAX_FILE_BYTES + 2**16:
            raise BodyTooLargeError(f"file: is over {MAX_FILE_BYTES} bytes: split it into several batches")
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise InvalidRequestError("Send multipart/form-data with the fields agent_id, name and file")
        async with request.form(max_files=1, max_fields=10) as form:
            agent_id = _read_agent_id(form.get("agent_id"))
            name = _read_name(form.get("name"))
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidRequestError("file: is missing; send the CSV as a file part (curl: -F file=@contacts.csv)")
            if file.size and file.size > MAX_FILE_BYTES:
                raise BodyTooLargeError(f"file: is over {MAX_FILE_BYTES} bytes: split it into several batches")
            batch = await self._uploader.upload(agent_id, name, file.filename or "contacts.csv", file.file)
        return JsonResponse({"data": batch})

    async def list(self, request: Request) -> Response:
        """The provider's list: newest first, by limit and offset."""
        self._authenticator.require(request)
        limit = read_number(request, "limit", 20, minimum=1, maximum=100)
        offset = read_number(request, "offset", 0, minimum=0, maximum=MAX_OFFSET)
        agent_id = read_optional_number(request, "agent_id", minimum=0, maximum=MAX_AGENT_ID)
        queries = self._database.queries
        async with self._database.snapshot() as connection:
            total = await queries.count_batches(connection, agent_id=agent_id)
            page = queries.list_batches(connection, agent_id=agent_id, limit=limit, offset=offset)
            rows = [dict(row) async for row in page]
        return JsonResponse({"data": rows, "total": total, "has_more": offset + len(rows) < total})

    async def get(self, request: Request) -> Response:
        """One batch in the provider's shape."""
        self._authenticator.require(request)
        batch_id = read_id(request, "batch_id", "batch")
        row = await self._database.queries.get_batch(self._database.pool, batch_id=batch_id)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return JsonResponse({"data": dict(row)})

    async def get_metrics(self, request: Request) -> Response:
        """The provider's twelve figures, from our own counters."""
        self._authenticator.require(request)
        counts = await self._read_counts(request, "UTC")
        return JsonResponse({"data": to_provider_metrics(counts)})

    async def get_outcomes(self, request: Request) -> Response:
        """Everything that is known about a batch's outcomes, and how final it is."""
        self._authenticator.require(request)
        time_zone = read_time_zone(request, "time_zone", self._default_time_zone)
        return JsonResponse({"data": summarise(await self._read_counts(request, time_zone))})

    async def list_uploads(self, request: Request) -> Response:
        """Uploads with their state: where to look for one whose answer was lost."""
        self._authenticator.require(request)
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

    async def _read_counts(self, request: Request, time_zone: str) -> Counts:
        batch_id = read_id(request, "batch_id", "batch")
        counts = await read_counts(self._database, batch_id, time_zone)
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return counts


def _read_agent_id(value: object) -> int:
    text = value.strip() if isinstance(value, str) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19) or int(text) > MAX_AGENT_ID:
        raise InvalidRequestError("agent_id: is missing or no whole number")
    return int(text)


def _read_name(value: object) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if not name or len(name) > MAX_NAME_CHARACTERS or "\x00" in name:
        raise InvalidRequestError(f"name: takes 1 to {MAX_NAME_CHARACTERS} characters")
    return name
