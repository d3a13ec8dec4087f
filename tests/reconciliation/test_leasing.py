"""A lease is renewed for as long as its holder works; once it is lost, the work stops."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.reconciliation.schedule import LeaseLostError, keep_lease

SECONDS = 0.15


def answering(*answers: bool | Exception) -> tuple[Callable[[], Awaitable[bool]], asyncio.Event]:
    """A renewal that gives these answers, the last one forever; and what is set once all have been given."""
    left, given = list(answers), asyncio.Event()

    async def renew() -> bool:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if len(left) == 1:
            given.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return renew, given


async def test_it_is_renewed_while_the_work_lasts_and_not_after() -> None:
    renew, given = answering(True, True, True, True)
    async with keep_lease(renew, seconds=SECONDS):
        await given.wait()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("answers", [(False,), (True, True, False), (ConnectionError(), False)])
async def test_work_whose_lease_was_taken_stops(answers: tuple[bool | Exception, ...]) -> None:
    renew, _ = answering(*answers)
    with pytest.raises(LeaseLostError):
        async with keep_lease(renew, seconds=SECONDS):
            await asyncio.Event().wait()


async def test_one_failed_renewal_is_made_up_for_by_the_next() -> None:
    renew, given = answering(ConnectionError(), True, ConnectionError(), True, True)
    async with keep_lease(renew, seconds=3 * SECONDS):
        await given.wait()


async def test_work_stops_when_no_renewal_succeeds_within_the_lease() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    for renew in (answering(ConnectionError())[0], hang):
        with pytest.raises(LeaseLostError):
            async with keep_lease(renew, seconds=SECONDS):
                await asyncio.Event().wait()


async def test_a_cancelled_holder_is_cancelled_and_an_error_of_the_work_passes() -> None:
    renew, given = answering(True, True)

    async def work() -> None:
        async with keep_lease(renew, seconds=SECONDS):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await given.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ValueError, match="of the work"):
        async with keep_lease(renew, seconds=SECONDS):
            raise ValueError("of the work")
