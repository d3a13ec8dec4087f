"""Uploads over HTTP: a CSV taken to the provider, checked only, promoted; their states, and a person's word on them."""

import re
from decimal import Decimal
from typing import Annotated, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.errors import (
    ConflictError,
    DuplicateRequestError,
    InvalidRequestError,
    KeyReusedError,
    NotFoundError,
    ProviderError,
)
from service.formant.batches import ProviderBatch
from service.outcomes.http import BATCH_ID
from service.store.database import Database
from service.uploads.files import ReceivedFile, keep_file, receive_form
from service.uploads.report import ContactError, Duplicate, Duplicates
from service.uploads.resolution import Resolver
from service.uploads.storing import UploadRequest
from service.uploads.uploader import Uploader
from service.web.operations import Answer, Form, Json, Operation
from service.web.parameters import Choice, Fields, Flag, Id, Number, Parameter, Percent, Text, read_json
from service.web.responses import JsonResponse, One, Page, Time, to_page

MAX_NAME_CHARACTERS = 200
MAX_AGENT_ID = 2**63 - 1
MAX_ROWS = 10**7
UPLOAD_STATES = ("preparing", "prepared", "held", "uploading", "uploaded", "unknown", "failed")
_KEY = re.compile(r'"([ !#-~]{1,255})"|([!#-~]{1,255})')


class IdempotencyKey(Parameter[str, None]):
    """The header of draft-ietf-httpapi-idempotency-key-header: a quoted string; a bare one is taken too."""

    place = "header"

    def __init__(self) -> None:
        description = "The same key again answers the same batch, and calls nobody twice; with another request: 422"
        takes = "1 to 255 printable characters in quotes, such as a UUID"
        schema = {"type": "string", "pattern": f"^(?:{_KEY.pattern})$"}
        super().__init__("Idempotency-Key", description, takes, schema, None)

    def _parse(self, text: str) -> str:
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        return match[1] or match[2]


IDEMPOTENCY_KEY = IdempotencyKey()
AGENT_ID = Number("agent_id", "The agent that calls", default=None, minimum=0, maximum=MAX_AGENT_ID)
NAME = Text("name", "The batch's name", default=None, maximum=MAX_NAME_CHARACTERS)
DRY_RUN = Flag("dry_run", "Only check the file: nothing is stored or sent")
DUPLICATES: Choice[Duplicates, Duplicates] = Choice(
    "duplicates", "A phone that comes twice: `reject` the file, keep the `first`, or call `all` rows",
    get_args(Duplicates), default="reject",
)  # fmt: skip
ACCEPT_COLUMNS = Flag("accept_columns", "The file's columns are to be the agent's from now on")
FORCE = Flag(
    "force", "Call these people again, although the same file was uploaded within 24 hours, or may have been sent"
)
TEST_RECIPIENTS = Number(
    "test_recipients", "Call a random sample of so many, and hold the rest for `…/promote`; 0: call all",
    default=0, minimum=0, maximum=MAX_ROWS,
)  # fmt: skip
PROMOTE_AT_SUCCESS_RATE = Percent(
    "promote_at_success_rate",
    "With `test_recipients`: call the rest once the test batch is `complete` with at least so many percent",
    default=None,
)
UPLOAD_ID = Id("upload_id", "upload", "Its number, from `GET /v1/uploads`")
STATE = Choice("state", "Only those in this state", UPLOAD_STATES, default=None)
LIMIT = Number("limit", "How many to answer at most", default=20, minimum=1, maximum=100)
BEFORE = Number("after", "`next` of the page before", default=None, minimum=1, maximum=2**62)


class Upload(msgspec.Struct):
    """An upload, and how far it is."""

    upload_id: int
    state: Annotated[str, Meta(extra_json_schema={"enum": [*UPLOAD_STATES]})]
    """``unknown``: sent, and no answer: it is looked for, never sent again; ``held``: waits for its promotion."""
    detail: str | None
    """Why it is in that state, where there is more to say."""
    batch_id: int | None
    """The provider's id, once it is known."""
    agent_id: int
    name: str
    recipients: int
    rows_checked: int | None
    campaign_id: int | None
    campaign_role: str | None
    """``test`` or ``main``."""
    promote_at_success_rate: Annotated[Decimal | None, Meta(extra={"shape": float | None})]
    prepared_at: Time
    sent_at: Time | None
    changed_at: Time
    lookups: int
    """How often it was looked for in the provider's list."""
    next_lookup_at: Time | None
    withheld_batches: list[int]
    """Batches that the provider lists and that are not shown, since they may be this upload while it is ``unknown``."""


class DryRun(msgspec.Struct):
    """The report on a file. The lists name the first 100; the counts are of all."""

    valid: bool
    columns_refused: str | None
    """What speaks against the file's columns: see ``accept_columns``."""
    columns: list[str]
    recipients: int
    bytes: int
    error_count: int
    error_kinds: dict[str, int]
    errors: list[ContactError]
    duplicate_count: int
    duplicates: list[Duplicate]


RESOLUTIONS = '{"batch_id": 456} or {"not_sent": true}'
MAX_DENIED = 1000


class Resolution(msgspec.Struct, forbid_unknown_fields=True):
    """A person's decision on an unknown upload: the batch that it became, or that it was never sent."""

    batch_id: int | None = None
    accept_difference: bool = False
    """With ``batch_id``: it is this batch although the provider counts another number of recipients."""
    not_sent: bool = False
    not_these: Annotated[list[int], Meta(max_length=MAX_DENIED)] | None = None
    """With ``not_sent``: all batches that could be it, as the 409 names them, and that are known not to be it."""
    accept_unreadable: bool = False
    """With ``not_sent``: nor is it an entry of the provider's list that cannot be read, by the provider's dashboard."""


class Uploads:
    """Handlers of ``/v1/batch-call``, ``/v1/uploads`` and ``/v1/batch-calls/{id}/promote``."""

    def __init__(self, database: Database, uploader: Uploader, resolver: Resolver) -> None:
        self._database = database
        self._uploader = uploader
        self._resolver = resolver

    def operations(self) -> list[Operation]:
        options = (DRY_RUN, DUPLICATES, ACCEPT_COLUMNS, FORCE, TEST_RECIPIENTS, PROMOTE_AT_SUCCESS_RATE)
        replayed = ("Idempotency-Replayed", "`true`: the answer to an earlier request with the same key")
        return [
            Operation(
                "POST", "/v1/batch-call", self.upload, "upload", "Uploads",
                parameters=(IDEMPOTENCY_KEY,),
                bodies=(Form((AGENT_ID, NAME, *options), needed=(AGENT_ID, NAME)),),
                answers=(
                    Answer(
                        One[ProviderBatch], "The batch, as the provider answered it", headers=(replayed,),
                    ),
                    Answer(One[DryRun], "With `dry_run`: the report on the file"),
                ),
                errors=(DuplicateRequestError, KeyReusedError, ProviderError),
                is_tolerant=True,
            ),
            Operation(
                "POST", "/v1/batch-calls/{batch_id}/promote", self.promote, "upload", "Uploads",
                parameters=(BATCH_ID,),
                answers=(Answer(One[ProviderBatch], "The batch that the rest became"),),
                errors=(ConflictError, ProviderError),
            ),
            Operation(
                "GET", "/v1/uploads", self.list, "read", "Uploads",
                parameters=(STATE, LIMIT, BEFORE),
                answers=(Answer(Page[Upload]),),
            ),
            Operation(
                "GET", "/v1/uploads/{upload_id}", self.get, "read", "Uploads",
                parameters=(UPLOAD_ID,),
                answers=(Answer(One[Upload]),),
            ),
            Operation(
                "POST", "/v1/uploads/{upload_id}/resolve", self.resolve, "upload", "Uploads",
                parameters=(UPLOAD_ID,),
                bodies=(Json(Resolution, f"Either `{RESOLUTIONS.replace(' or ', '` or `')}`"),),
                answers=(Answer(One[Upload]),),
                errors=(ConflictError, ProviderError),
            ),
        ]  # fmt: skip

    async def upload(self, request: Request) -> Response:
        """Takes a CSV to the provider; answers as the provider does. With ``dry_run`` it only answers the report."""
        async with receive_form(request) as form, keep_file(form) as file:
            fields = Fields(form, request.query_params)
            asked = _read_request(request, fields, file)
            if fields.read(DRY_RUN):
                report, refusal = await self._uploader.check(asked)
                is_valid = refusal is None and not report.error_count
                found = {name: getattr(report, name) for name in DryRun.__struct_fields__[2:]}
                return JsonResponse(One(DryRun(is_valid, refusal, **found)))
            batch, is_repeated = await self._uploader.upload(asked)
        headers = {"idempotency-replayed": "true"} if is_repeated else {}
        return JsonResponse(One(batch), headers=headers)

    async def promote(self, request: Request) -> Response:
        """Sends the rest of a test batch's file, once. Answers the batch that it became."""
        return JsonResponse(One(await self._uploader.promote(BATCH_ID.read(request))))

    async def list(self, request: Request) -> Response:
        """Uploads with their state, newest first: where to look for one whose answer was lost."""
        limit, before, state = LIMIT.read(request), BEFORE.read(request) or 2**62, STATE.read(request)
        page = self._database.queries.list_uploads(self._database.pool, state=state, before=before, limit=limit + 1)
        return JsonResponse(to_page([Upload(**row) async for row in page], limit, "upload_id"))

    async def get(self, request: Request) -> Response:
        """One upload: its state, and how far it is."""
        return JsonResponse(One(await self._read(UPLOAD_ID.read(request))))

    async def resolve(self, request: Request) -> Response:
        """A person's decision on an unknown upload. 409 where the evidence is against it, naming what could be it."""
        upload_id = UPLOAD_ID.read(request)
        word = await read_json(request, Resolution, RESOLUTIONS)
        if (word.batch_id is None) == (not word.not_sent):
            raise InvalidRequestError(f"Send JSON with either {RESOLUTIONS}")
        if word.accept_difference and word.batch_id is None:
            raise InvalidRequestError("accept_difference: goes with batch_id")
        if word.not_these is not None and not word.not_sent:
            raise InvalidRequestError("not_these: goes with not_sent")
        if word.accept_unreadable and not word.not_sent:
            raise InvalidRequestError("accept_unreadable: goes with not_sent")
        if word.batch_id is not None:
            await self._resolver.adopt(upload_id, word.batch_id, accept_difference=word.accept_difference)
        else:
            await self._resolver.declare_not_sent(upload_id, word.not_these, accept_unreadable=word.accept_unreadable)
        return JsonResponse(One(await self._read(upload_id)))

    async def _read(self, upload_id: int) -> Upload:
        row = await self._database.queries.get_upload(self._database.pool, batch_key=upload_id)
        if row is None:
            raise NotFoundError(f"There is no upload {upload_id}")
        return Upload(**row)


def _read_request(request: Request, fields: Fields, file: ReceivedFile) -> UploadRequest:
    test_recipients = fields.read(TEST_RECIPIENTS)
    promote_at = fields.read(PROMOTE_AT_SUCCESS_RATE)
    if promote_at is not None and not test_recipients:
        raise InvalidRequestError("promote_at_success_rate: needs test_recipients=N, the batch that it is measured by")
    name = fields.require(NAME)
    longest = MAX_NAME_CHARACTERS - (len(" (test)") if test_recipients else 0)
    if len(name) > longest:
        raise InvalidRequestError(f"name: takes 1 to {longest} characters")
    return UploadRequest(
        agent_id=fields.require(AGENT_ID),
        name=name,
        file_name=file.name,
        path=file.path,
        file_digest=file.digest,
        duplicates=fields.read(DUPLICATES),
        accept_columns=fields.read(ACCEPT_COLUMNS),
        force=fields.read(FORCE),
        idempotency_key=IDEMPOTENCY_KEY.read(request),
        test_recipients=test_recipients,
        promote_at_success_rate=promote_at,
    )
