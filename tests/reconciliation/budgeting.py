"""The provider's budget with a clock that a test sets."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from service.reconciliation.budget import Budget, name_account
from service.store.database import Database

BEGIN = datetime(2026, 3, 16, 12, tzinfo=UTC)
ACCOUNT = name_account("https://provider.test", "key")


class WouldSleepError(Exception):
    """Raised in the place of waiting."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Clock:
    """Stands still until it is moved; sleeping moves it, or is refused."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.slept = 0.0

    def read(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += timedelta(seconds=seconds)

    async def refuse(self, seconds: float) -> None:
        raise WouldSleepError(seconds)


def open_budget(database: Database, clock: Clock, *, waits: bool = False, reserved: float = 0.0) -> Budget:
    sleep = clock.sleep if waits else clock.refuse
    return Budget(database, ACCOUNT, reserved=reserved, now=clock.read, sleep=sleep, longest_wait_seconds=3000)


def answer(status: int = 200, headers: dict[str, str] | None = None, *, now: datetime = BEGIN) -> httpx.Response:
    return httpx.Response(status, headers={"date": format_datetime(now, usegmt=True)} | (headers or {}))


def limits(remaining: int, ends_at: datetime, limit: int = 50) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": ends_at.isoformat(),
    }


async def call(budget: Budget, response: httpx.Response | None = None) -> None:
    """One call with this answer; None: no answer."""
    if response is None:
        with pytest.raises(ConnectionError):
            async with budget.spend():
                raise ConnectionError
        return
    async with budget.spend() as note:
        note(response)


async def wait_of(budget: Budget) -> float:
    """How long the next call would have to wait; it is made when it need not."""
    try:
        await budget.take()
    except WouldSleepError as error:
        return error.seconds
    return 0.0
