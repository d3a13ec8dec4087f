"""Reconciliation over HTTP: its history, and one comparison on demand."""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError, UnavailableError
from service.reconcile.reconciler import Reconciler
from service.store.database import Database
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_id, read_number

JSON_COLUMNS = ("reasons", "differences", "inconsistencies")


class Reconciliation:
    """Handlers of ``…/reconciliations`` and ``…/reconcile``. ``reconciler`` is None without a key for the provider."""

    def __init__(self, database: Database, reconciler: Reconciler | None) -> None:
        self._database = database
        self._reconciler = reconciler

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/batch-calls/{batch_id}/reconciliations", self.list, "read"),
            Operation("POST", "/v1/batch-calls/{batch_id}/reconcile", self.reconcile, "upload"),
        ]

    async def list(self, request: Request) -> Response:
        """What each comparison came to, newest first."""
        batch_id = read_id(request, "batch_id", "batch")
        limit = read_number(request, "limit", 20, minimum=1, maximum=100)
        before = read_number(request, "after", 2**62, minimum=1, maximum=2**62)
        queries, pool = self._database.queries, self._database.pool
        if await queries.get_batch(pool, batch_id=batch_id) is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        page = queries.list_reconciliations(pool, batch_id=batch_id, before=before, limit=limit + 1)
        rows = [dict(row) | {name: raw(row[name]) for name in JSON_COLUMNS} async for row in page]
        has_more, rows = len(rows) > limit, rows[:limit]
        last = rows[-1]["reconciliation_id"] if has_more else None
        return JsonResponse({"data": rows, "next": last, "has_more": has_more})

    async def reconcile(self, request: Request) -> Response:
        """Compares and heals now, whatever grace still runs."""
        batch_id = read_id(request, "batch_id", "batch")
        if self._reconciler is None:
            raise UnavailableError("No reconciliation: FORMANT_API_KEY is empty, so the provider cannot be called")
        assessment = await self._reconciler.reconcile_now(batch_id)
        return JsonResponse({"data": assessment._asdict() | {"batch_id": batch_id}})
