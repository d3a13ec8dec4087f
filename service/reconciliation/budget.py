"""The budget of calls to the provider: one row in Postgres that all replicas claim their calls from.

What the provider tells with each answer (``X-RateLimit-*``, ``Retry-After``; contract, "Errors and limits") goes into
that row, so that one replica's 429 makes all of them wait. Failures in a row make everybody back off, twice as long
each time; from the fifth the circuit is open, and one caller at a time may try whether the provider is back.

This is the one place that decides when a call may be made again: a client that has a budget waits for nothing else.
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

BACKGROUND_LEAVES = 0.2
"""The share of each window that background work leaves to uploads and to people."""
PROBE_SECONDS = 90.0
"""Longer than a request can last: whoever tried is gone."""
BACKOFF_SECONDS = 0.5


class Budget:
    """Claims calls for one kind of work; any number of them, in any process, share an account's row.

    ``reserved`` is the share that is left to others. ``now`` None is the database's own clock.
    """

    def __init__(
        self,
        database: Database,
        account: str,
        *,
        reserved: float = BACKGROUND_LEAVES,
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

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[Callable[[httpx.Response], None]]:
        """Entered when a call may be made; is told the answer. Left by an error without one, the call has failed.

        Raises ProviderError (503, ``provider_paused``) when the wait would be too long.
        """
        await self.take()
        answers: list[httpx.Response] = []
        try:
            yield answers.append
        except asyncio.CancelledError:
            raise  # nothing was learned; a probe's turn runs out by itself
        except BaseException:
            await self._record(answers[-1] if answers else None)
            raise
        await self._record(answers[-1] if answers else None)

    async def take(self) -> None:
        """Waits until a call may be made, and claims it."""
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
            # A little later than allowed, and not all at once.
            seconds = claim["wait_seconds"] * random.uniform(1.0, 1.1) + 0.01  # noqa: S311  nothing secret in it
            waited += seconds
            if waited > self._longest_wait_seconds:
                raise ProviderError(
                    f"The provider is not called for now ({claim['refusal']})",
                    status=503,
                    error_type="provider_paused",
                    headers={"retry-after": str(max(1, round(claim["wait_seconds"])))},
                )
            await self._sleep(seconds)

    async def _record(self, response: httpx.Response | None) -> None:
        status = 0 if response is None else response.status_code
        now = self._now and self._now()
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


@dataclass
class Meter:
    """Counts the calls that one comparison spends."""

    pacer: Pacer
    calls: int = 0

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[Callable[[httpx.Response], None]]:
        """As the pacer's."""
        async with self.pacer.spend() as note:
            self.calls += 1
            yield note


def name_account(base_url: str, api_key: str) -> str:
    """What the budget's row is known by: tells neither address nor key."""
    return hashlib.sha256(f"{base_url}\n{api_key}".encode()).hexdigest()[:16]


def _read_count(response: httpx.Response, name: str) -> int | None:
    value = response.headers.get(name, "").strip()
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 9 else None
