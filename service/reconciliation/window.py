"""Finds where a batch's time begins in the list of conversations, so that a walk need not start at the newest call.

The contract leaves the list's order open. So the search compares every page that it reads with those before, and goes
on only where all of them run backwards in time. It bisects: about eleven pages for 200,000 calls. New calls only move
entries back meanwhile, so the place that it finds is too early rather than too late.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from service.formant.conversations import ConversationPage
from service.formant.listing import PAGE_ROWS

ORDER_SLACK = timedelta(hours=1)
"""By how much the starts of calls may differ from the list's order: it may be by their ends, or by their creation."""
MAX_SEARCH_PAGES = 40


class _Span(NamedTuple):
    begin: int
    end: int
    newest: datetime
    oldest: datetime


async def find_offset(fetch: Callable[[int], Awaitable[ConversationPage]], until: datetime) -> int:
    """An offset before all calls that began by ``until``; 0 where the pages do not prove the order.

    The page there is newer than that as a whole, so a walk can verify that nothing lies between.
    """
    first = await fetch(0)
    span = read_span(first, 0)
    if span is None or span.oldest <= until or first.has_more is False:
        return 0
    low, newer = 0, span
    total = first.total if first.total is not None and first.total > len(first.keys) else None
    high, older = total, None
    for _ in range(MAX_SEARCH_PAGES):
        if high is not None and high - low <= PAGE_ROWS:
            return low
        offset = 2 * low + PAGE_ROWS if high is None else (low + high) // 2
        page = await fetch(offset)
        if not page.keys:  # behind the end
            high = offset
            continue
        span = read_span(page, offset)
        if span is None or not _follows(span, newer) or (older is not None and not _follows(older, span)):
            return 0
        if span.oldest > until:
            low, newer = offset, span
        else:
            high, older = offset, span
    return 0


def read_span(page: ConversationPage, offset: int) -> _Span | None:
    """From when to when the calls of a page began; None where that is unknown, or the page does not run backwards."""
    times = [record.started_at for record in page.data]
    known = [time for time in times if time is not None]
    if not known or len(known) < len(page.keys):
        return None
    earliest = known[0]
    for time in known:
        if time > earliest + ORDER_SLACK:
            return None
        earliest = min(earliest, time)
    return _Span(offset, offset + len(known), max(known), earliest)


def _follows(span: _Span, earlier: _Span) -> bool:
    """Whether a page at a greater offset is older. The two may overlap."""
    if span.newest >= earlier.newest or span.oldest >= earlier.oldest:
        return False
    return span.begin < earlier.end or span.newest <= earlier.oldest + ORDER_SLACK
