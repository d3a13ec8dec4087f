"""Batches over HTTP, in the provider's own paths and shapes, and their outcomes."""

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.batches import ProviderMetrics
from service.outcomes.as_of import PastReader
from service.outcomes.shapes import VERDICTS, Outcomes
from service.outcomes.slices import Slicer
from service.outcomes.summary import read_counts, read_figures, summarise, to_provider_metrics
from service.outcomes.timeline import STEPS, Step
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Free, Header, Id, Number
from service.web.responses import (
    JsonResponse,
    One,
    Time,
    answer_unchanged,
    asks_whether_changed,
    caching_headers,
    has_current,
    make_etag,
)
from service.web.times import Moment, TimeZone
from service.wording import describe_verdict

MAX_OFFSET = 2**31 - 1
MAX_AGENT_ID = 2**63 - 1

BATCH_ID = Id("batch_id", "batch", "The provider's id of the batch")
LIMIT = Number("limit", "Maximum number of batches", default=20, minimum=1, maximum=100)
OFFSET = Number("offset", "Number of batches to skip", default=0, minimum=0, maximum=MAX_OFFSET)
AGENT_ID = Number("agent_id", "Only batches of this agent", default=None, minimum=0, maximum=MAX_AGENT_ID)
CAMPAIGN_ID = Number(
    "campaign_id", "Only batches of this campaign: a test batch and its main batch",
    default=None, minimum=0, maximum=MAX_AGENT_ID,
)  # fmt: skip
AS_OF = Moment("as_of", "Answer as the service would have answered at this time; a recount, so it takes longer")
BY = Free(
    "by", "Slice the outcomes by a call parameter, such as `city`, or by a result, such as `results.intent`",
    "the name of a call parameter or a result of the batch",
)  # fmt: skip
STEP = Choice("step", "The unit of `timeline`: hours or days of `time_zone`", STEPS, default=STEPS[0])
IF_NONE_MATCH = Header("If-None-Match", "The `ETag` of the answer that the client already has")
ETAG = ("ETag", "Identifies this answer: see `If-None-Match`")
UNCHANGED = Answer(None, "The client's copy is still current", 304, headers=(ETAG,))
VERDICT = Choice("verdict", "Only batches with this verdict", VERDICTS, default=None)


class Batch(msgspec.Struct, kw_only=True):
    """A batch in the provider's shape. A batch of a campaign also has the campaign fields;
    the provider has no field after ``created_at``."""

    id: int
    name: str
    agent_id: int
    status: str | None
    """The provider's value, unchanged."""
    total_recipients: int
    created_at: Time
    campaign_id: int | msgspec.UnsetType = msgspec.UNSET
    campaign_role: str | msgspec.UnsetType = msgspec.UNSET
    """``test`` or ``main``."""
    verdict: str
    verdict_text: str
    """The verdict of the last comparison and its reasons in a sentence; ``…/outcomes`` has what changed since."""


class BatchList(msgspec.Struct):
    """One page of batches, newest first; ``total`` counts all that match the filters."""

    data: list[Batch]
    total: int
    has_more: bool


class Batches:
    """Handlers of ``/v1/batch-calls``."""

    def __init__(self, database: Database, slicer: Slicer, *, default_time_zone: str) -> None:
        self._database = database
        self._past = PastReader(database)
        self._slicer = slicer
        self._time_zone = TimeZone(
            "time_zone", "Time zone of hours, weekdays and days: an IANA name", default=default_time_zone
        )

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls", self.list, "read", "Batches",
                parameters=(LIMIT, OFFSET, AGENT_ID, CAMPAIGN_ID, VERDICT), answers=(Answer(BatchList),),
                is_tolerant=True,
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/metrics", self.get_metrics, "read", "Batches",
                parameters=(BATCH_ID, IF_NONE_MATCH),
                answers=(Answer(One[ProviderMetrics], headers=(ETAG,)), UNCHANGED), is_tolerant=True,
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/outcomes", self.get_outcomes, "read", "Outcomes",
                parameters=(BATCH_ID, self._time_zone, BY, STEP, AS_OF, IF_NONE_MATCH),
                answers=(Answer(One[Outcomes], headers=(ETAG,)), UNCHANGED),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The provider's list of batches, newest first."""
        limit, offset = LIMIT.read(request), OFFSET.read(request)
        filters = {parameter.name: parameter.read(request) for parameter in (AGENT_ID, CAMPAIGN_ID, VERDICT)}
        queries = self._database.queries
        async with self._database.snapshot() as connection:
            total = await queries.count_batches(connection, **filters)
            page = queries.list_batches(connection, **filters, limit=limit, offset=offset)
            rows = [show_batch(row) async for row in page]
        return JsonResponse(BatchList(rows, total, has_more=offset + len(rows) < total))

    async def get(self, request: Request) -> Response:
        """One batch in the provider's shape."""
        batch_id = BATCH_ID.read(request)
        row = await self._database.queries.get_batch(self._database.pool, batch_id=batch_id)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return JsonResponse(One(show_batch(row)))

    async def get_metrics(self, request: Request) -> Response:
        """The provider's twelve figures, from our own counters. ``If-None-Match`` saves the body, but no reads."""
        batch_id = BATCH_ID.read(request)
        counts = await read_figures(self._database, batch_id)
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        answer = JsonResponse(One(to_provider_metrics(counts)))
        etag = make_etag(bytes(answer.body).decode())
        if has_current(request, etag):
            return answer_unchanged(etag)
        answer.headers.update(caching_headers(etag))
        return answer

    async def get_outcomes(self, request: Request) -> Response:
        """All known outcomes of a batch, and how final they are. ``by`` slices them; ``as_of`` shows an earlier time.

        A 304 takes only a few look-ups by key. An answer and its ETag describe the same instant.
        """
        batch_id, time_zone, by = BATCH_ID.read(request), self._time_zone.read(request), BY.read(request)
        as_of, step = AS_OF.read(request), STEP.read(request)
        if as_of is not None:
            if by is not None:
                raise InvalidRequestError("by: cannot be combined with as_of; earlier figures are not sliced")
            counts = await self._past.read_counts(batch_id, time_zone, as_of, step)
            return JsonResponse({"data": summarise(counts, step)})
        if asks_whether_changed(request):
            version = await self._database.queries.get_batch_version(self._database.pool, batch_id=batch_id)
            etag = make_etag(version or "", time_zone, by or "", step)
            if version is not None and has_current(request, etag):
                return answer_unchanged(etag)
        return await self._answer_outcomes(batch_id, time_zone, by, step)

    async def _answer_outcomes(self, batch_id: int, time_zone: str, by: str | None, step: Step) -> Response:
        if by is None:
            counts, slices = await read_counts(self._database, batch_id, time_zone, step=step), None
        else:
            await self._slicer.check_name(batch_id, by)
            async with self._database.snapshot() as connection:
                counts = await read_counts(self._database, batch_id, time_zone, connection, step=step)
                slices = await self._slicer.slice(connection, batch_id, by) if counts else None
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        etag = make_etag(counts.version, time_zone, by or "", step)
        sliced = {} if slices is None else {"slices": slices}
        return JsonResponse(One(summarise(counts, step) | sliced), headers=caching_headers(etag))


def show_batch(row: asyncpg.Record) -> Batch:
    """The batch in a row; campaign fields are omitted when null."""
    shown = dict(row)
    if shown["campaign_id"] is None:
        del shown["campaign_id"], shown["campaign_role"]
    shown["verdict_text"] = shown["verdict_text"] or describe_verdict(shown["verdict"], [])
    return Batch(**shown)
