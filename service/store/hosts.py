"""Connects to the one of several hosts that takes writes.

The driver tries hosts one after the other within one time limit, so a machine that is gone and sends no refusal would
use up all of it: no connection would ever be opened. Here each host has the whole limit to itself, and the next one is
tried as soon as one fails or has not answered for ``HEAD_START_SECONDS``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

HEAD_START_SECONDS = 0.25


async def connect_to_any(hosts: Sequence[str], **options: Any) -> asyncpg.Connection:
    """A connection to the first of the addresses that answers as ``options`` ask; the driver's own if there is one.

    Raises the error of the last host if none does, and rather one that says more than that a host is a standby.
    """
    if len(hosts) == 1:
        return await asyncpg.connect(hosts[0], **options)
    attempts: list[asyncio.Task[asyncpg.Connection]] = []
    chosen = None
    try:
        for host in hosts:
            attempts.append(asyncio.create_task(asyncpg.connect(host, **options)))
            await asyncio.wait(attempts[-1:], timeout=HEAD_START_SECONDS)
            if (chosen := _find_opened(attempts)) is not None:
                break
        while chosen is None and (pending := [attempt for attempt in attempts if not attempt.done()]):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            chosen = _find_opened(attempts)
    finally:
        for attempt in attempts:
            if attempt is not chosen:
                attempt.cancel()
                attempt.add_done_callback(_drop)
    if chosen is None:
        raise _find_cause(attempts)
    return chosen.result()


def _find_opened(attempts: Sequence[asyncio.Task[asyncpg.Connection]]) -> asyncio.Task[asyncpg.Connection] | None:
    return next((attempt for attempt in attempts if attempt.done() and attempt.exception() is None), None)


def _drop(attempt: asyncio.Task[asyncpg.Connection]) -> None:
    """Closes a connection that another was faster than."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()


def _find_cause(attempts: Sequence[asyncio.Task[asyncpg.Connection]]) -> BaseException:
    errors = [error for attempt in attempts if (error := attempt.exception()) is not None]
    causes = [error for error in errors if not isinstance(error, asyncpg.TargetServerAttributeNotMatched)]
    return (causes or errors)[-1]
