"""The budget of calls to the provider over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.reconciliation.budget import BACKGROUND_RESERVE, CALLS_LIMIT
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse, One, Time

OPEN_CIRCUIT = 5
"""Failures in a row; as in claim_provider_call()."""
LONGEST_BLOCK = timedelta(hours=1)
STATES = ("no_key", "ready", "spent", "blocked", "failing")


class ProviderBudget(msgspec.Struct):
    """The calls that may still be made to the provider in its present window, by all replicas together."""

    state: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*STATES]})]
    """``ready``; ``spent`` until ``resets_at``; ``blocked`` until ``blocked_until``; ``failing``: the provider does not
    answer, and is tried one call at a time; ``no_key``: FORMANT_API_KEY is empty."""
    limit: int
    remaining: int
    reserved: int
    """Calls of each window that background work leaves to uploads and to people."""
    resets_at: Time | None
    """When the window ends; null while none has begun."""
    is_reset_reported: bool
    """Whether the provider said so; otherwise a minute is assumed."""
    blocked_until: Time | None
    failures: int
    """Calls in a row without a usable answer."""
    failing_since: Time | None
    calls_made: int
    """Since this key has been used."""
    as_of: Time


class BudgetView:
    """Handler of ``GET /v1/provider/budget``. ``account`` is None without a key of the provider."""

    def __init__(self, database: Database, account: str | None) -> None:
        self._database = database
        self._account = account

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/provider/budget", self.get_budget, "read", "Operation",
                parameters=(), answers=(Answer(One[ProviderBudget]),),
            ),
        ]  # fmt: skip

    async def get_budget(self, request: Request) -> Response:
        """How many calls the provider still takes in its present window, and what it is doing instead."""
        row = None
        if self._account is not None:
            row = await self._database.queries.get_provider_budget(self._database.pool, account=self._account)
        now = datetime.now(UTC)
        limit = row["calls_limit"] if row else CALLS_LIMIT
        is_running = row is not None and row["window_ends_at"] is not None and row["window_ends_at"] > now
        blocked_until = row["blocked_until"] if row else None
        if blocked_until is not None and not now < blocked_until <= now + LONGEST_BLOCK:
            blocked_until = None
        reserved = min(int(BACKGROUND_RESERVE * limit), limit - 1)
        remaining = row["remaining"] if row and is_running else limit
        failures = row["failures"] if row else 0
        state = "ready" if self._account is not None else "no_key"
        if failures >= OPEN_CIRCUIT:
            state = "failing"
        elif blocked_until is not None:
            state = "blocked"
        elif remaining <= 0:
            state = "spent"
        return JsonResponse(
            One(
                ProviderBudget(
                    state=state,
                    limit=limit,
                    remaining=max(0, remaining),
                    reserved=reserved,
                    resets_at=row["window_ends_at"] if row and is_running else None,
                    is_reset_reported=bool(row and is_running and row["is_window_told"]),
                    blocked_until=blocked_until,
                    failures=failures,
                    failing_since=row["failing_since"] if row and failures else None,
                    calls_made=row["calls_made"] if row else 0,
                    as_of=now,
                )
            )
        )
