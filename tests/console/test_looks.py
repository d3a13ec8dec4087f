"""Shared looks: many viewers of one thing cost what one does."""

import asyncio

import pytest

from service.console.looks import KEPT_SECONDS, MAX_LOOKS, Looks


class Maker:
    """Makes answers, and counts how many."""

    def __init__(self) -> None:
        self.made = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def make(self) -> int:
        self.made += 1
        await self.may_end.wait()
        if self.error:
            raise self.error
        return self.made


async def test_two_hundred_viewers_at_once_share_one_answer() -> None:
    looks, maker = Looks(lambda: 0.0), Maker()
    viewers = [asyncio.create_task(looks.get("batch", maker.make)) for _ in range(200)]
    await asyncio.sleep(0)
    maker.may_end.set()
    assert await asyncio.gather(*viewers) == [1] * 200
    assert await looks.get("batch", maker.make) == 1


async def test_an_answer_is_made_again_once_it_is_old_and_for_another_thing() -> None:
    now = 0.0
    looks, maker = Looks(lambda: now), Maker()
    maker.may_end.set()
    assert await looks.get("batch", maker.make) == 1
    assert await looks.get("other", maker.make) == 2
    now = KEPT_SECONDS
    assert await looks.get("batch", maker.make) == 1
    now = KEPT_SECONDS + 0.1
    assert await looks.get("batch", maker.make) == 3


async def test_a_viewer_who_leaves_takes_the_answer_from_nobody() -> None:
    looks, maker = Looks(lambda: 0.0), Maker()
    first = asyncio.create_task(looks.get("batch", maker.make))
    second = asyncio.create_task(looks.get("batch", maker.make))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    maker.may_end.set()
    assert await second == 1


async def test_a_failure_is_shared_by_those_who_wait_and_is_not_kept() -> None:
    looks, maker = Looks(lambda: 0.0), Maker()
    maker.error = ValueError("gone")
    viewers = [asyncio.create_task(looks.get("batch", maker.make)) for _ in range(3)]
    await asyncio.sleep(0)
    maker.may_end.set()
    assert [type(error) for error in await asyncio.gather(*viewers, return_exceptions=True)] == [ValueError] * 3
    maker.error = None
    assert await looks.get("batch", maker.make) == 2


async def test_no_more_answers_are_kept_than_fit() -> None:
    looks, maker = Looks(lambda: 0.0), Maker()
    maker.may_end.set()
    for number in range(MAX_LOOKS + 1):
        await looks.get(number, maker.make)
    assert maker.made == MAX_LOOKS + 1
    await looks.get(MAX_LOOKS, maker.make)
    assert maker.made == MAX_LOOKS + 1
    with pytest.raises(ZeroDivisionError):
        await looks.get(0, _fail)


async def _fail() -> int:
    return 1 // 0
