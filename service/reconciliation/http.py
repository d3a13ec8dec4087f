"""Reconciliation over HTTP: its history, and one comparison on demand."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError, ProviderError, UnavailableError
from service.outcomes.http import BATCH_ID
from service.outcomes.shapes import Difference, Inconsistency, Reason, Verdict
from service.reconciliation.drift import Assessment
from service.reconciliation.reconciler import Reconciler
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Number
from service.web.responses import JsonResponse, One, Page, Time, raw, to_page

JSON_COLUMNS = ("reasons", "differences", "inconsistencies")
LIMIT = Number("limit", "Maximum number of entries", default=20, minimum=1, maximum=100)
BEFORE = Number("after", "`next` of the previous page", default=None, minimum=1, maximum=2**62)


class Comparison(msgspec.Struct):
    """The result of comparisons with the provider's figures. Consecutive equal results are one entry."""

    reconciliation_id: int
    compared_at: Time
    """The time of the first comparison."""
    last_compared_at: Time
    comparisons: int
    """The number of comparisons."""
    verdict: Verdict
    reasons: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[Reason]})]
    differences: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[Difference]})]
    inconsistencies: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[Inconsistency]})]
    calls_spent: int
    """Calls of the provider's API."""
    healed: int
    """Phone calls healed: their webhooks were lost."""
    details_outstanding: int | None
    """Of all healed calls, those whose results and failure reasons were still to be fetched; null if unknown."""
    details_expected_at: Time | None
    """When they were expected; null if none was outstanding."""


class Reconciled(Assessment, frozen=True):
    """The verdict on a batch, and the reasons for it."""

    batch_id: int


class Reconciliation:
    """Handlers of ``…/reconciliations`` and ``…/reconcile``. ``reconciler`` is None without a provider API key."""

    def __init__(self, database: Database, reconciler: Reconciler | None) -> None:
        self._database = database
        self._reconciler = reconciler

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/reconciliations", self.list, "read", "Reconciliation",
                parameters=(BATCH_ID, LIMIT, BEFORE), answers=(Answer(Page[Comparison]),),
            ),
            Operation(
                "POST", "/v1/batch-calls/{batch_id}/reconcile", self.reconcile, "upload", "Reconciliation",
                parameters=(BATCH_ID,), answers=(Answer(One[Reconciled]),), errors=(ProviderError,),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The result of each comparison with the provider, newest first."""
        batch_id = BATCH_ID.read(request)
        limit, before = LIMIT.read(request), BEFORE.read(request) or 2**62
        queries, pool = self._database.queries, self._database.pool
        if await queries.get_batch(pool, batch_id=batch_id) is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        page = queries.list_reconciliations(pool, batch_id=batch_id, before=before, limit=limit + 1)
        rows = [Comparison(**dict(row) | {name: raw(row[name]) for name in JSON_COLUMNS}) async for row in page]
        return JsonResponse(to_page(rows, limit, "reconciliation_id"))

    async def reconcile(self, request: Request) -> Response:
        """Compares and heals now, regardless of the grace period."""
        batch_id = BATCH_ID.read(request)
        if self._reconciler is None:
            raise UnavailableError("No reconciliation: FORMANT_API_KEY is empty, so the provider cannot be called")
        assessment = await self._reconciler.reconcile_now(batch_id)
        return JsonResponse(One(Reconciled(**msgspec.structs.asdict(assessment), batch_id=batch_id)))
