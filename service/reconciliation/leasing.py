"""A lease that is renewed for as long as its holder works, so that it can be short: once its holder is killed, another
takes over within its length. Where it was lost, or could not be renewed in time, the work is cancelled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from service.errors import OutcomesError

logger = structlog.get_logger()

LEASE_SECONDS = 30.0
RENEWALS = 3
"""Tries within the length of a lease."""


class LeaseLostError(OutcomesError):
    """Another worker has taken over, or may have; nothing more may be written."""


@asynccontextmanager
async def keep_lease(renew: Callable[[], Awaitable[bool]], *, seconds: float) -> AsyncIterator[None]:
    """Renews a lease that was just taken, for as long as the block lasts. ``renew`` returns whether it is still held.

    Raises LeaseLostError out of the block when it is not, or when no renewal succeeded for as long as the lease lasts.
    """
    worker = asyncio.current_task()
    assert worker is not None
    is_lost = False

    async def keep() -> None:
        nonlocal is_lost
        await _renew_until_lost(renew, seconds)
        is_lost = True
        worker.cancel()

    keeper = asyncio.create_task(keep())
    try:
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
    except asyncio.CancelledError:
        if is_lost and worker.uncancel() == 0:
            raise LeaseLostError("The lease was lost") from None
        raise


async def _renew_until_lost(renew: Callable[[], Awaitable[bool]], seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    ends_at = clock() + seconds
    while clock() < ends_at:
        await asyncio.sleep(seconds / RENEWALS)
        began = clock()
        try:
            async with asyncio.timeout_at(ends_at):
                if not await renew():
                    return
            ends_at = began + seconds
        except TimeoutError:
            return
        except Exception:
            logger.warning("lease_not_renewed", exc_info=True)
