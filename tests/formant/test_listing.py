"""A walk through a list ends whatever the list does, and meets all that was there when it began."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant import listing
from service.formant.listing import PAGE_ROWS, Ending, ListWalk


@dataclass
class FakePage:
    keys: list[int]
    has_more: bool | None


class ProviderList:
    """A list of the provider: newest first or in any order; before each answer new entries may come in front."""

    def __init__(
        self, count: int, rng: random.Random, *, finds: str, has_more: str, rows: int, arriving: Callable[[], int]
    ) -> None:
        self.entries = rng.sample(range(count), count)
        self.answers = 0
        self._finds, self._has_more, self._rows, self._arriving = finds, has_more, rows, arriving
        self._next = count

    async def fetch(self, offset: int) -> FakePage:
        self.answers += 1
        for _ in range(self._arriving()):
            self.entries.insert(0, self._next)
            self._next += 1
        count = len(self.entries)
        first = {
            "honoured": offset,
            "ignored": 0,
            "clamped": min(offset, max(0, count - self._rows)),
        }[self._finds]
        keys = self.entries[first : first + self._rows]
        return FakePage(keys, {"truly": first + len(keys) < count, "always": True, "never": None}[self._has_more])


async def walk_all(provider: ProviderList) -> tuple[set[int], Ending | None]:
    walk, met = ListWalk(provider.fetch), set[int]()
    while (page := await walk.read()) is not None:
        met |= set(page.keys)
        assert provider.answers < 3000, "it does not end"
    return met, walk.ending


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 900), seed=st.integers(0, 2**32), has_more=st.sampled_from(["truly", "always", "never"]),
    most=st.sampled_from([0, 1, 30, 79, 80, 150, 400]), answers=st.integers(0, 40),
)  # fmt: skip
async def test_a_list_that_grows_while_it_is_read_gives_all_that_was_there(
    count: int, seed: int, has_more: str, most: int, answers: int
) -> None:
    rng = random.Random(seed)
    provider = ProviderList(
        count, rng, finds="honoured", has_more=has_more, rows=PAGE_ROWS,
        arriving=lambda: rng.randint(0, most) if provider.answers <= answers else 0,
    )  # fmt: skip
    met, ending = await walk_all(provider)
    assert (set(range(count)) - met, ending) == (set(), "end")


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 500), seed=st.integers(0, 2**32), rows=st.integers(1, PAGE_ROWS), most=st.integers(0, 3))
async def test_a_list_with_shorter_pages_than_requested_is_read_to_its_end(
    count: int, seed: int, rows: int, most: int
) -> None:
    rng = random.Random(seed)
    provider = ProviderList(
        count, rng, finds="honoured", has_more="truly", rows=rows,
        arriving=lambda: rng.randint(0, most) if provider.answers < 100 else 0,
    )  # fmt: skip
    met, ending = await walk_all(provider)
    assert (set(range(count)) - met, ending) == (set(), "end")


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 900), seed=st.integers(0, 2**32), finds=st.sampled_from(["ignored", "clamped"]),
    rows=st.integers(1, PAGE_ROWS), most=st.sampled_from([0, 1, 5]),
)  # fmt: skip
async def test_a_list_that_never_ends_is_left_and_said_so(
    count: int, seed: int, finds: str, rows: int, most: int
) -> None:
    rng = random.Random(seed)
    arriving: Callable[[], int] = lambda: rng.randint(0, min(most, rows // 5))  # noqa: E731
    provider = ProviderList(count, rng, finds=finds, has_more="always", rows=rows, arriving=arriving)
    met, ending = await walk_all(provider)
    assert ending == "list_repeats"
    pages = 1 if finds == "ignored" else len(provider.entries) / max(1, rows - 20, rows // 2)
    assert provider.answers <= pages + 12
    if finds != "ignored":
        assert set(range(count)) <= met


async def test_a_list_without_an_end_is_abandoned_after_the_maximum_of_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 50)
    provider = ProviderList(
        0, random.Random(0), finds="honoured", has_more="always", rows=PAGE_ROWS, arriving=lambda: 500
    )
    assert (await walk_all(provider))[1] == "list_too_long"
    assert provider.answers < 110


async def test_a_page_that_could_not_be_read_is_read_again() -> None:
    provider = ProviderList(
        250, random.Random(0), finds="honoured", has_more="truly", rows=PAGE_ROWS, arriving=lambda: 0
    )
    failures = iter([True, False, True, True, False, False, False, False, False])

    async def fetch(offset: int) -> FakePage:
        if next(failures):
            raise ConnectionError
        return await provider.fetch(offset)

    walk, met = ListWalk(fetch), set[int]()
    while walk.ending is None:
        try:
            page = await walk.read()
        except ConnectionError:
            continue
        met |= set(page.keys if page else ())
    assert met == set(range(250))
