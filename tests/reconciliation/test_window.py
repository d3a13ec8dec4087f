"""A walk begins where the batch's time does, if the list's order is proven; a list in any other order is read whole."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.formant.conversations import ConversationPage, decode_conversation_page
from service.reconciliation.window import find_offset
from service.store.database import Database
from tests.factories import BEGAN, store_batch
from tests.reconciliation.walking import STARTED, Provider, Walker, converse

ENDED = BEGAN + timedelta(hours=1)
MINUTE = timedelta(minutes=1)
RECIPIENTS = 20


@pytest.fixture
async def walker(database: Database) -> AsyncIterator[Walker]:
    made = Walker(database)
    yield made
    made.close()


def list_calls(*, newer: int, older: int = 3000) -> list[dict[str, Any]]:
    """Calls of strangers, one a minute, with those of the batch between them; newest first."""
    return [
        *(converse(None, ENDED + timedelta(hours=1) + n * MINUTE) for n in reversed(range(newer))),
        *(converse(number, BEGAN + number * MINUTE) for number in range(RECIPIENTS, 0, -1)),
        *(converse(None, STARTED - timedelta(hours=2) - n * MINUTE) for n in range(older)),
    ]


@pytest.mark.parametrize("says_total", [True, False])
async def test_thousands_of_newer_calls_cost_a_few_pages(database: Database, walker: Walker, says_total: bool) -> None:
    key = await store_batch(database.url, RECIPIENTS)
    provider = Provider(list_calls(newer=5_000))
    provider.total = len(provider.listed) if says_total else 1
    progress = await walker.walk(provider, key, ended_at=ENDED)
    assert (progress.healed, progress.is_whole) == (RECIPIENTS, False)
    assert provider.pages < (20 if says_total else 30)


async def test_calls_that_arrive_meanwhile_hide_nothing(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url, RECIPIENTS)
    arriving = [converse(None, ENDED + timedelta(days=9) + n * MINUTE) for n in range(50)]
    provider = Provider(list_calls(newer=2_000), arriving)
    assert (await walker.walk(provider, key, ended_at=ENDED)).healed == RECIPIENTS
    assert provider.pages < 25


class Shrinking(Provider):
    """Loses its newest entries once it has been read so often."""

    def __init__(self, listed: list[dict[str, Any]], after_pages: int) -> None:
        super().__init__(listed)
        self._after_pages = after_pages

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.pages == self._after_pages:
            self.listed = self.listed[1500:]
        return super().answer(request)


async def test_entries_that_vanish_after_the_search_hide_nothing(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url, RECIPIENTS)
    listed = list_calls(newer=2_000)
    search = Pages(listed)
    assert await find_offset(search.fetch, ENDED) > 1500
    provider = Shrinking(listed, after_pages=len(search.read))
    assert (await walker.walk(provider, key, ended_at=ENDED)).healed == RECIPIENTS


class Pages:
    """A list that is read page by page."""

    def __init__(self, listed: list[dict[str, Any]]) -> None:
        self._listed = listed
        self.read: list[int] = []

    async def fetch(self, offset: int) -> ConversationPage:
        self.read.append(offset)
        return decode_conversation_page(json.dumps({"data": self._listed[offset : offset + 100]}).encode())


async def test_the_place_found_is_just_before_the_calls_of_that_time() -> None:
    listed = list_calls(newer=5_000)
    pages = Pages(listed)
    offset = await find_offset(pages.fetch, ENDED)
    assert 5_000 - 2 * 100 <= offset <= 5_000 - 100
    assert len(pages.read) < 16


def mix(listed: list[dict[str, Any]], block: int) -> list[dict[str, Any]]:
    """The list in blocks of that size, of which every second one changes places with another far away."""
    blocks = [listed[first : first + block] for first in range(0, len(listed), block)]
    odd = blocks[1::2]
    blocks[1::2] = [odd[(n * 7) % len(odd)] for n in range(len(odd))]
    return [record for part in blocks for record in part]


@pytest.mark.parametrize("block", [1, 50, 100, 1000])
async def test_no_place_is_found_in_a_list_whose_pages_contradict_an_order(block: int) -> None:
    listed = list_calls(newer=4_900, older=2_100)[: 7 * 1001]
    assert await find_offset(Pages(mix(listed, block)).fetch, ENDED) == 0


def in_blocks(listed: list[dict[str, Any]], way: str) -> list[dict[str, Any]]:
    """The list with the entries of each page in the other order, or with the same page again and again."""
    if way == "the same page":
        return listed[:10] * (len(listed) // 10)
    return [record for first in range(0, len(listed), 100) for record in reversed(listed[first : first + 100])]


@pytest.mark.parametrize("way", ["each page forwards", "the same page"])
async def test_no_place_is_found_where_pages_run_forwards_or_repeat(way: str) -> None:
    listed = in_blocks(list_calls(newer=5_000), way)
    assert await find_offset(Pages(listed).fetch, ENDED) == 0


@pytest.mark.parametrize("odd", [{"start_timestamp": None}, {"conversation_id": None}])
async def test_no_place_is_found_where_an_entry_has_no_time_or_no_id(odd: dict[str, Any]) -> None:
    listed = list_calls(newer=5_000)
    listed[50] |= odd
    assert await find_offset(Pages(listed).fetch, ENDED) == 0


async def test_a_batch_that_has_not_finished_is_walked_from_the_newest_call(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url, RECIPIENTS)
    provider = Provider(list_calls(newer=1_000))
    progress = await walker.walk(provider, key)
    assert (progress.healed, progress.is_whole, walker.saved[0]) == (RECIPIENTS, True, 80)


@pytest.mark.parametrize("order", ["oldest first", "none", "one page of old calls in front"])
async def test_a_list_in_another_order_is_read_whole(database: Database, walker: Walker, order: str) -> None:
    key = await store_batch(database.url, RECIPIENTS)
    listed = list_calls(newer=1_000, older=500)
    if order == "oldest first":
        listed.reverse()
    elif order == "none":
        listed = [listed[(n * 7919) % len(listed)] for n in range(len(listed))]
    else:
        listed = [*listed[1000:1100], *listed[:1000], *listed[1100:]]
    provider = Provider(listed)
    progress = await walker.walk(provider, key, ended_at=ENDED)
    assert (progress.healed, progress.is_whole) == (RECIPIENTS, True)
