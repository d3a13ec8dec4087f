"""Reading one of the provider's lists page by page, to an end whatever the list does.

The contract leaves the order of its lists open, and new entries shift the pages while one reads. So pages overlap, and
a page that brings nothing new proves nothing: entries may have been added in front as fast as we read. What proves that
a list ignores the offset, or repeats its last page for ever, is a comparison: entries only ever move backwards, so none
of a page's entries stands, when asked for afterwards, before the offset that the page was read at.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

PAGE_ROWS = 100  # the provider's maximum
OVERLAP_ROWS = 20
"""Read again with the next page: so many entries may vanish meanwhile, and none is missed."""
MOST_PAGES = 50_000
"""About four million entries. A walk that is not over by then is stopped, whatever the list says."""
PROOF_ENTRIES = 10
"""Fewer that two pages share may be entries that cannot be told apart."""

Ending: TypeAlias = Literal["end", "list_repeats", "list_too_long"]


class Page(Protocol):
    """One page of a list. ``has_more`` is None where the list does not say whether another follows."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """What each entry is known by, in their order: one for each, readable or not."""

    @property
    def has_more(self) -> bool | None: ...


P = TypeVar("P", bound=Page)


class ListWalk(Generic[P]):
    """Reads a list from ``offset`` on; ``fetch`` gets the page at an offset."""

    def __init__(self, fetch: Callable[[int], Awaitable[P]], offset: int = 0) -> None:
        self.offset = offset
        """Where the next page begins."""
        self.ending: Ending | None = None
        """Why the walk ended; None while it goes on. After anything but ``end`` part of the list is not known."""
        self._fetch = fetch
        self._pages = 0
        self._previous: tuple[int, Hashable] | None = None
        """Offset and first entry of the page before: a page that is the same again holds that entry, too."""

    async def read(self) -> P | None:
        """The next page; None after the last. Raises what ``fetch`` raises, and may then be called again."""
        if self.ending is not None:
            return None
        page = await self._fetch(self.offset)
        received = len(page.keys)
        if not received or page.has_more is False or (page.has_more is None and received < PAGE_ROWS):
            self.ending = "end"
        elif await self._repeats(page):
            self.ending = "list_repeats"
        elif self._pages >= MOST_PAGES:
            self.ending = "list_too_long"
        if received:
            self._previous = self.offset, page.keys[0]
        self._pages += 1
        # A list may give fewer entries than it was asked for: then less overlaps.
        self.offset += max(1, received - min(OVERLAP_ROWS, received // 2))
        return page

    async def _repeats(self, page: P) -> bool:
        """Whether entries of the page also stand before it, where they cannot if the list honours the offset."""
        if self._previous is None or self._previous[1] not in page.keys:
            return False
        offset = self._previous[0]
        before = set((await self._fetch(offset)).keys[: self.offset - offset])
        least = min(PROOF_ENTRIES, (len(before) + 1) // 2, len(set(page.keys)))
        return bool(before) and len(before & set(page.keys)) >= least
