"""The budget of calls to the provider: one row in Postgres from which all replicas claim their calls.

The limits in each answer (``X-RateLimit-*``, ``Retry-After``; contract, "Errors and limits") are stored in that row, so
one replica's 429 makes all of them wait. After consecutive failures all replicas back off, twice as long each time.
From the fifth failure the circuit is open, and one caller at a time may probe whether the provider is back.

Only the budget decides when a call may be made again: a client with a budget waits for nothing else.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from service.errors import ProviderError
from service.formant.client import Pacer, read_reset, read_wait
from service.store.database import Database

BACKGROUND_RESERVE = 0.2
"""The share of each window that background work leaves to uploads and to requests from people."""
PROBE_SECONDS = 90.0
"""Longer than a request can last, so the previous probe is over."""
BACKOFF_SECONDS = 0.5
CALLS_LIMIT, WINDOW_SECONDS = 50, 60.0
"""The pace until the provider reports another (contract, "Errors and limits"); as in claim_provider_call()."""
LONGEST_WINDOW_SECONDS = 3600.0


class Budget:
    """Claims calls for one kind of work. Any number of budgets, in any process, share an account's row.

    ``reserved`` is the share of each window left to others. Without ``now``, the database's clock is used.
    """

    def __init__(
        self,
        database: Database,
        account: str,
        *,
        reserved: float = BACKGROUND_RESERVE,
        longest_wait_seconds: float = 300.0,
        now: Callable[[], datetime] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._account = account
        self._reserved = reserved
        self._longest_wait_seconds = longest_wait_seconds
        self._now = now
        self._sleep = sleep
        self._calls_limit = CALLS_LIMIT
        self._window_seconds: float | None = None

    @property
    def seconds_per_call(self) -> float:
        """The pace of many calls in a row: by the limit and the window that the provider last reported."""
        calls = self._calls_limit - min(int(self._reserved * self._calls_limit), self._calls_limit - 1)
        return (self._window_seconds or WINDOW_SECONDS) / max(1, calls)

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[Callable[[httpx.Response], None]]:
        """Enters when a call may be made; yields a function that takes the answer. An error without an answer counts as
        a failed call.

        Raises ProviderError (503, ``provider_paused``) when the wait would be too long.
        """
        await self.take()
        answers: list[httpx.Response] = []
        try:
            yield answers.append
        except asyncio.CancelledError:
            raise  # the outcome is unknown; a probe's turn expires by itself
        except BaseException:
            await self._record(answers[-1] if answers else None)
            raise
        await self._record(answers[-1] if answers else None)

    async def take(self) -> None:
        """Waits until a call may be made and claims it."""
        waited = 0.0
        while True:
            claim = await self._database.queries.claim_provider_call(
                self._database.pool,
                account=self._account,
                reserved=self._reserved,
                probe_seconds=PROBE_SECONDS,
                now=self._now and self._now(),
            )
            if claim["refusal"] is None:
                return
            # Slightly late, with jitter, so that replicas do not all call at once.
            seconds = claim["wait_seconds"] * random.uniform(1.0, 1.1) + 0.01  # noqa: S311  nothing secret in it
            waited += seconds
            if waited > self._longest_wait_seconds:
                raise ProviderError(
                    f"Calls to the provider are paused ({claim['refusal']})",
                    status=503,
                    error_type="provider_paused",
                    headers={"retry-after": str(max(1, round(claim["wait_seconds"])))},
                )
            await self._sleep(seconds)

    async def _record(self, response: httpx.Response | None) -> None:
        status = 0 if response is None else response.status_code
        now = self._now and self._now()
        if response is not None:
            self._note_limits(response, now or datetime.now(UTC))
        await self._database.queries.record_provider_answer(
            self._database.pool,
            account=self._account,
            failed=status == 0 or status >= 500,
            limit=None if response is None else _read_count(response, "x-ratelimit-limit"),
            remaining=None if response is None else _read_count(response, "x-ratelimit-remaining"),
            reset_seconds=None if response is None else read_reset(response, now or datetime.now(UTC)),
            block_seconds=float(read_wait(response)) if response is not None and status == 429 else 0.0,
            backoff_seconds=BACKOFF_SECONDS * random.uniform(0.75, 1.25),  # noqa: S311  only to spread replicas
            now=now,
        )

    def _note_limits(self, response: httpx.Response, now: datetime) -> None:
        self._calls_limit = _read_count(response, "x-ratelimit-limit") or self._calls_limit
        reset = read_reset(response, now)
        if reset is not None and 0 < reset <= LONGEST_WINDOW_SECONDS:
            # The time left of a window is at most its length.
            self._window_seconds = max(self._window_seconds or 0.0, reset)


@dataclass
class Meter:
    """Counts the calls of one comparison."""

    pacer: Pacer
    calls: int = 0
    _taken: int = 0

    def take(self) -> int:
        """The calls since this was last called, to be recorded."""
        taken, self._taken = self._taken, self.calls
        return self.calls - taken

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[Callable[[httpx.Response], None]]:
        async with self.pacer.spend() as note:
            self.calls += 1
            yield note


def name_account(base_url: str, api_key: str) -> str:
    """The key of the budget's row: a hash, so it reveals neither the address nor the API key."""
    return hashlib.sha256(f"{base_url}\n{api_key}".encode()).hexdigest()[:16]


def _read_count(response: httpx.Response, name: str) -> int | None:
    value = response.headers.get(name, "").strip()
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 9 else None
