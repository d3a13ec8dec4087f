"""Reconciliation over HTTP: its history, and one comparison on demand."""

from typing import Annotated

import asyncpg
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError, ProviderError, UnavailableError
from service.outcomes.healing import describe_details, describe_healing, only_future, update_reasons
from service.outcomes.http import BATCH_ID
from service.outcomes.shapes import Difference, Inconsistency, Reason, Verdict
from service.outcomes.spilled import Spilled, add_spilled
from service.outcomes.summary import read_figures, to_provider_metrics
from service.reconciliation.demand import OnDemand
from service.reconciliation.drift import Assessment
from service.store.database import Database
from service.web.operations import RETRY_AFTER, Answer, Operation
from service.web.parameters import Number
from service.web.responses import JsonResponse, One, Page, Time, raw, to_page
from service.wording import describe_verdict

JSON_COLUMNS = ("reasons", "differences", "inconsistencies")
RETRY_SECONDS = 5
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
    verdict_text: str
    """The verdict and its reasons in a sentence."""
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


class Reconciled(Assessment, frozen=True, kw_only=True):
    """The verdict on a batch, and the reasons for it."""

    batch_id: int


class Healing(msgspec.Struct):
    """What is being done about a batch."""

    batch_id: int
    state: Annotated[str, Meta(extra_json_schema={"enum": ["healing", "comparing", "fetching_details", "idle"]})]
    """``healing``: lost calls are looked up; then the figures are final. ``fetching_details``: the figures are final,
    results and failure reasons follow."""
    done: int | None
    total: int | None
    """Recipients whose final outcome was missing here and is known by now, and how many were found missing so far; null
    unless it is ``healing``."""
    expected_at: Time | None
    """When the figures, or the details, are expected to be there; null if unknown."""
    details_outstanding: int
    verdict: Verdict
    """The last verdict."""
    verdict_text: str
    """It and its reasons in a sentence."""
    last_reconciled_at: Time | None
    reasons: list[Reason]


class Reconciliation:
    """Handlers of ``…/reconciliations`` and ``…/reconcile``. ``on_demand`` is None without a provider API key."""

    def __init__(self, database: Database, on_demand: OnDemand | None) -> None:
        self._database = database
        self._on_demand = on_demand

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/reconciliations", self.list, "read", "Reconciliation",
                parameters=(BATCH_ID, LIMIT, BEFORE), answers=(Answer(Page[Comparison]),),
            ),
            Operation(
                "POST", "/v1/batch-calls/{batch_id}/reconcile", self.reconcile, "upload", "Reconciliation",
                parameters=(BATCH_ID,), errors=(ProviderError,),
                answers=(
                    Answer(One[Reconciled]),
                    Answer(One[Healing], "Still under way: GET the same path", 202, headers=(RETRY_AFTER,)),
                ),
            ),
            Operation(
                "GET", "/v1/batch-calls/{batch_id}/reconcile", self.show, "read", "Reconciliation",
                parameters=(BATCH_ID,), answers=(Answer(One[Healing]),),
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
        rows = [_show(row) async for row in page]
        return JsonResponse(to_page(rows, limit, "reconciliation_id"))

    async def reconcile(self, request: Request) -> Response:
        """Compares and heals now, even while late webhooks may still arrive. What takes longer than a few seconds goes
        on after the answer, with status 202."""
        batch_id = BATCH_ID.read(request)
        if self._on_demand is None:
            raise UnavailableError("No reconciliation: FORMANT_API_KEY is empty, so the provider cannot be called")
        assessment = await self._on_demand.reconcile(batch_id)
        if assessment is None:
            headers = {"retry-after": str(RETRY_SECONDS)}
            return JsonResponse(One(await self._describe(batch_id)), status_code=202, headers=headers)
        return JsonResponse(One(Reconciled(**msgspec.structs.asdict(assessment), batch_id=batch_id)))

    async def show(self, request: Request) -> Response:
        """What is being done about a batch: compared, healed, or its details fetched."""
        return JsonResponse(One(await self._describe(BATCH_ID.read(request))))

    async def _describe(self, batch_id: int) -> Healing:
        row = await self._database.queries.get_healing(self._database.pool, batch_id=batch_id)
        counts = await read_figures(self._database, batch_id)
        if row is None or counts is None:
            raise NotFoundError(f"There is no batch {batch_id}")
        ours, now = to_provider_metrics(counts), counts.as_of
        healing = describe_healing(row["healing"], ours, now)
        stored = [] if row["reasons"] is None else msgspec.json.decode(row["reasons"], type=list[Reason])
        outstanding: int = row["details_outstanding"]
        details_expected_at = only_future(row["details_expected_at"], now)
        updated = update_reasons(stored, healing, ours, describe_details(outstanding, details_expected_at, now))
        spilled = None if row["spilled"] is None else msgspec.json.decode(row["spilled"], type=Spilled)
        reasons = add_spilled(updated, row["verdict"], spilled)
        if healing is not None:
            state, expected_at = "healing", healing.expected_at
        elif outstanding:
            state, expected_at = "fetching_details", details_expected_at
        else:
            state, expected_at = "comparing" if row["is_leased"] else "idle", None
        return Healing(
            batch_id=batch_id,
            state=state,
            done=None if healing is None else healing.done,
            total=None if healing is None else healing.total,
            expected_at=expected_at,
            details_outstanding=outstanding,
            verdict=row["verdict"],
            verdict_text=describe_verdict(row["verdict"], reasons),
            last_reconciled_at=row["last_reconciled_at"],
            reasons=reasons,
        )


def _show(row: asyncpg.Record) -> Comparison:
    reasons = msgspec.json.decode(row["reasons"], type=list[Reason])
    details = describe_details(row["details_outstanding"], row["details_expected_at"], row["last_compared_at"])
    text = describe_verdict(row["verdict"], [*reasons, details] if details else reasons)
    return Comparison(**dict(row) | {name: raw(row[name]) for name in JSON_COLUMNS}, verdict_text=text)
