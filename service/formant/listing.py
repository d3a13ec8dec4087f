"""Reads one of the provider's lists page by page, and always terminates.

The contract leaves the order of lists open, and new entries shift the pages during reading. So pages overlap, and a
page with nothing new proves nothing: entries may be added in front as fast as we read. A list that ignores the offset,
or repeats its last page forever, is detected by a comparison. Entries only move backwards, so a later read before a
page's offset must not return entries of that page.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

PAGE_ROWS = 100  # the provider's maximum
OVERLAP_ROWS = 20
"""Entries read again with the next page. Up to this many may vanish in between without one being missed."""
MAX_PAGES = 50_000
"""About four million entries. A longer walk is stopped, whatever the list says."""
PROOF_ENTRIES = 10
"""Two pages may share fewer entries than this merely because some entries look the same."""

Ending: TypeAlias = Literal["end", "list_repeats", "list_too_long"]


class ListPage(Protocol):
    """One page of a list. ``has_more`` is None where the list does not say whether another page follows."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """One key for each entry, readable or not, in list order."""

    @property
    def has_more(self) -> bool | None: ...


P = TypeVar("P", bound=ListPage)


class ListWalk(Generic[P]):
    """Reads a list from ``offset`` on; ``fetch`` returns the page at an offset."""

    def __init__(self, fetch: Callable[[int], Awaitable[P]], offset: int = 0) -> None:
        self.offset = offset
        """Where the next page begins."""
        self.ending: Ending | None = None
        """Why the walk ended; None until then. After any ending but ``end``, part of the list is unknown."""
        self._fetch = fetch
        self._pages = 0
        self._previous: tuple[int, Hashable] | None = None
        """Offset and first entry of the previous page. A repeated page contains that entry too."""

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
        elif self._pages >= MAX_PAGES:
            self.ending = "list_too_long"
        if received:
            self._previous = self.offset, page.keys[0]
        self._pages += 1
        # A list may return fewer entries than requested; the overlap is then smaller.
        self.offset += max(1, received - min(OVERLAP_ROWS, received // 2))
        return page

    async def _repeats(self, page: P) -> bool:
        """Whether entries of the page also come before its offset: impossible if the list honours the offset."""
        if self._previous is None or self._previous[1] not in page.keys:
            return False
        offset = self._previous[0]
        before = set((await self._fetch(offset)).keys[: self.offset - offset])
        least = min(PROOF_ENTRIES, (len(before) + 1) // 2, len(set(page.keys)))
        return bool(before) and len(before & set(page.keys)) >= least
