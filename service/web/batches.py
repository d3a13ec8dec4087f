"""Batches over HTTP, in the provider's own paths and shapes, and the outcomes of one."""

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.formant.client import ProviderMetrics
from service.outcomes.shapes import VERDICTS, Outcomes
from service.outcomes.summary import Counts, read_counts, summarise, to_provider_metrics
from service.store.database import Database
from service.web.answers import One, Time
from service.web.declarations import Choice, Id, Number, TimeZone
from service.web.json import JsonResponse
from service.web.operations import Answer, Operation

MAX_OFFSET = 2**31 - 1
MAX_AGENT_ID = 2**63 - 1

BATCH_ID = Id("batch_id", "batch", "The provider's id of the batch")
LIMIT = Number("limit", "How many to answer at most", default=20, minimum=1, maximum=100)
OFFSET = Number("offset", "How many to leave out first", default=0, minimum=0, maximum=MAX_OFFSET)
AGENT_ID = Number("agent_id", "Only those of this agent", default=None, minimum=0, maximum=MAX_AGENT_ID)
CAMPAIGN_ID = Number(
    "campaign_id", "Only the batches of one campaign: a test batch and its main batch",
    default=None, minimum=0, maximum=MAX_AGENT_ID,
)  # fmt: skip
VERDICT = Choice("verdict", "Only those whose numbers are worth this", VERDICTS, default=None)


class Batch(msgspec.Struct):
    """A batch in the provider's shape; one of a campaign tells that too."""

    id: int
    name: str
    agent_id: int
    status: str | None
    """The provider's word, whatever it is."""
    total_recipients: int
    created_at: Time
    campaign_id: int | msgspec.UnsetType = msgspec.UNSET
    campaign_role: str | msgspec.UnsetType = msgspec.UNSET
    """``test`` or ``main``."""


class BatchList(msgspec.Struct):
    """A part of the provider's batches, newest first; ``total`` counts all that fit the filters."""

    data: list[Batch]
    total: int
    has_more: bool


class Batches:
    """Handlers of ``/v1/batch-calls``."""

    def __init__(self, database: Database, *, default_time_zone: str) -> None:
        self._database = database
        self._time_zone = TimeZone(
            "time_zone", "That of the hours in `by_hour`, by its IANA name", default=default_time_zone
        )

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls", self.list, "read", "Batches",
                parameters=(LIMIT, OFFSET, AGENT_ID, CAMPAIGN_ID, VERDICT),
                answers=(Answer(BatchList),),
                is_tolerant=True,
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/metrics", self.get_metrics, "read", "Batches",
                parameters=(BATCH_ID,),
                answers=(Answer(One[ProviderMetrics]),),
                is_tolerant=True,
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/outcomes", self.get_outcomes, "read", "Outcomes",
                parameters=(BATCH_ID, self._time_zone),
                answers=(Answer(One[Outcomes]),),
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
        """The provider's twelve figures, from our own counters."""
        counts = await self._read_counts(request, "UTC")
        return JsonResponse(One(to_provider_metrics(counts)))

    async def get_outcomes(self, request: Request) -> Response:
        """Everything that is known about a batch's outcomes, and how final it is."""
        time_zone = self._time_zone.read(request)
        return JsonResponse(One(summarise(await self._read_counts(request, time_zone))))

    async def _read_counts(self, request: Request, time_zone: str) -> Counts:
        batch_id = BATCH_ID.read(request)
        counts = await read_counts(self._database, batch_id, time_zone)
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return counts


def show_batch(row: asyncpg.Record) -> Batch:
    """The batch in a row; what is of no campaign does not tell one."""
    shown = dict(row)
    if shown["campaign_id"] is None:
        del shown["campaign_id"], shown["campaign_role"]
    return Batch(**shown)
