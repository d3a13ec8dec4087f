"""The provider's budget over HTTP: what the row says that all replicas claim from."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.reconciliation.budget import name_account
from service.store.database import Database
from tests.conftest import StartService

URL, KEY = "http://127.0.0.1:9", "provider-key"
ACCOUNT = name_account(URL, KEY)


async def read(service: httpx.AsyncClient) -> dict[str, Any]:
    budget: dict[str, Any] = (await service.get("/v1/provider/budget")).json()["data"]
    return budget


async def test_without_a_key_nothing_may_be_called(service: httpx.AsyncClient) -> None:
    assert (await read(service))["state"] == "no_key"


async def test_the_budget_says_what_is_left_and_until_when(start_service: StartService, database: Database) -> None:
    now = datetime.now(UTC)
    ends = now + timedelta(seconds=40)
    async with start_service(FORMANT_BASE_URL=URL, FORMANT_API_KEY=KEY) as service:
        before = await read(service)
        assert (before["state"], before["remaining"], before["limit"], before["resets_at"]) == ("ready", 50, 50, None)
        await database.pool.execute(
            """
            INSERT INTO provider_budgets (account, calls_limit, remaining, window_ends_at, is_window_told, calls_made)
            VALUES ($1, 100, 30, $2, true, 70)""",
            ACCOUNT,
            ends,
        )
        running = await read(service)
        assert (running["state"], running["remaining"], running["limit"]) == ("ready", 30, 100)
        assert (running["reserved"], running["calls_made"], running["is_reset_reported"]) == (20, 70, True)
        assert datetime.fromisoformat(running["resets_at"]) == ends
        await database.pool.execute("UPDATE provider_budgets SET remaining = 0")
        assert (await read(service))["state"] == "spent"
        await database.pool.execute("UPDATE provider_budgets SET window_ends_at = $1", now - timedelta(seconds=1))
        over = await read(service)
        assert (over["state"], over["remaining"], over["resets_at"]) == ("ready", 100, None)
        await database.pool.execute("UPDATE provider_budgets SET blocked_until = $1", now + timedelta(seconds=50))
        assert (await read(service))["state"] == "blocked"
        await database.pool.execute("UPDATE provider_budgets SET failures = 5, failing_since = $1", now)
        failing = await read(service)
        assert (failing["state"], failing["failures"]) == ("failing", 5)
