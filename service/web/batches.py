"""Batches over HTTP, in the provider's own paths and shapes, and the outcomes of one."""

from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.outcomes.past import PastReader
from service.outcomes.slices import Slicer
from service.outcomes.summary import read_counts, read_figures, summarise, to_provider_metrics
from service.reconcile.drift import VERDICTS
from service.store.database import Database
from service.web.caching import answer_unchanged, asks_whether_changed, caching_headers, has_current, make_etag
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_id, read_number, read_optional_number, read_optional_time, read_time_zone

MAX_OFFSET = 2**31 - 1
MAX_AGENT_ID = 2**63 - 1


class Batches:
    """Handlers of ``/v1/batch-calls``."""

    def __init__(self, database: Database, slicer: Slicer, *, default_time_zone: str) -> None:
        self._database = database
        self._past = PastReader(database)
        self._slicer = slicer
        self._default_time_zone = default_time_zone

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/batch-calls", self.list, "read"),
            Operation("GET", "/v1/batch-calls/{batch_id}/metrics", self.get_metrics, "read"),
            Operation("GET", "/v1/batch-calls/{batch_id}/outcomes", self.get_outcomes, "read"),
        ]

    async def list(self, request: Request) -> Response:
        """The provider's list: newest first, by limit and offset."""
        limit = read_number(request, "limit", 20, minimum=1, maximum=100)
        offset = read_number(request, "offset", 0, minimum=0, maximum=MAX_OFFSET)
        filters = {
            name: read_optional_number(request, name, minimum=0, maximum=MAX_AGENT_ID)
            for name in ("agent_id", "campaign_id")
        }
        verdict = request.query_params.get("verdict")
        if verdict not in {None, *VERDICTS}:
            raise InvalidRequestError(f"verdict: takes one of {', '.join(VERDICTS)}")
        queries = self._database.queries
        async with self._database.snapshot() as connection:
            total = await queries.count_batches(connection, **filters, verdict=verdict)
            page = queries.list_batches(connection, **filters, verdict=verdict, limit=limit, offset=offset)
            rows = [show_batch(row) async for row in page]
        return JsonResponse({"data": rows, "total": total, "has_more": offset + len(rows) < total})

    async def get(self, request: Request) -> Response:
        """One batch in the provider's shape."""
        batch_id = read_id(request, "batch_id", "batch")
        row = await self._database.queries.get_batch(self._database.pool, batch_id=batch_id)
        if row is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        return JsonResponse({"data": show_batch(row)})

    async def get_metrics(self, request: Request) -> Response:
        """The provider's twelve figures, from our own counters. Few counters are read, whether they changed or not."""
        batch_id = read_id(request, "batch_id", "batch")
        counts = await read_figures(self._database, batch_id)
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        answer = JsonResponse({"data": to_provider_metrics(counts)})
        etag = make_etag(bytes(answer.body).decode())
        if has_current(request, etag):
            return answer_unchanged(etag)
        answer.headers.update(caching_headers(etag))
        return answer

    async def get_outcomes(self, request: Request) -> Response:
        """Everything that is known about a batch's outcomes, and how final it is; ``by`` slices, ``as_of`` looks back.

        What a client has already is told to hold by a few look-ups by key. An answer and its ETag are of one instant.
        """
        batch_id = read_id(request, "batch_id", "batch")
        time_zone = read_time_zone(request, "time_zone", self._default_time_zone)
        by = request.query_params.get("by")
        as_of = read_optional_time(request, "as_of")
        if as_of is not None:
            if by is not None:
                raise InvalidRequestError("by: not together with as_of; figures of an earlier time are not sliced")
            return JsonResponse({"data": summarise(await self._past.read_counts(batch_id, time_zone, as_of))})
        if asks_whether_changed(request):
            version = await self._database.queries.get_batch_version(self._database.pool, batch_id=batch_id)
            etag = make_etag(version or "", time_zone, by or "")
            if version is not None and has_current(request, etag):
                return answer_unchanged(etag)
        return await self._answer_outcomes(batch_id, time_zone, by)

    async def _answer_outcomes(self, batch_id: int, time_zone: str, by: str | None) -> Response:
        if by is None:
            counts, slices = await read_counts(self._database, batch_id, time_zone), None
        else:
            await self._slicer.check_name(batch_id, by)
            async with self._database.snapshot() as connection:
                counts = await read_counts(self._database, batch_id, time_zone, connection)
                slices = await self._slicer.slice(connection, batch_id, by) if counts else None
        if counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        etag = make_etag(counts.version, time_zone, by or "")
        sliced = {} if slices is None else {"slices": slices}
        return JsonResponse({"data": summarise(counts) | sliced}, headers=caching_headers(etag))


def show_batch(row: asyncpg.Record) -> dict[str, Any]:
    """A batch in the provider's shape; one of a campaign tells that too."""
    shown = dict(row)
    if shown["campaign_id"] is None:
        del shown["campaign_id"], shown["campaign_role"]
    return shown
