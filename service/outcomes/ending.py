"""When a batch is expected to be finished: the work that is left, at the pace of its calls.

The estimate plays a queue. Recipients without a call, and those whose retry is overdue, can be called now, one after
the other at the pace; a retry that is due later joins the queue then. Each needs as many calls as a finished recipient
of the batch needed on average. The end is when the queue is empty.

- The pace is that of the calls that began in the last hour. If everyone who is left waits for a later time, it is that
  of the busiest quarter of an hour of the last day: a pause says nothing about how fast retries will be called.
- Retries that are not planned yet count as calls, but the time until they are due is not known: an end may move away.
- There is no estimate without a basis: with recipients who can be called now while no call began in the last hour, with
  retries whose time is not known, and for an end further ahead than ``FURTHEST``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

SLOT = timedelta(minutes=15)
RECENT = timedelta(hours=1)
SHORTEST = timedelta(minutes=1)
"""Calls of a shorter time are taken as those of a minute, or the first call of a batch would promise too much."""
FURTHEST = timedelta(days=30)


class SlotCalls(msgspec.Struct, frozen=True):
    """Calls that began in the quarter of an hour from ``start`` on."""

    start: datetime
    calls: int


class DueRetries(msgspec.Struct, frozen=True):
    """Recipients whose retry is due at a time to come."""

    due_at: datetime
    recipients: int


def estimate_end(
    *,
    now: datetime,
    ready: int,
    retries: Sequence[DueRetries],
    calls_per_recipient: float,
    calls: Sequence[SlotCalls],
    created_at: datetime | None,
) -> datetime | None:
    """When the last recipient is expected to be finished; None without a basis, and when nobody is left.

    ``ready`` counts recipients that can be called now. ``calls`` are those of the last day, if any.
    """
    if ready:
        pace = measure_pace(calls, now=now, created_at=created_at)
        if pace is None:
            return None
    else:
        pace = find_busiest_pace(calls)
    end = now if pace is None else _add(now, ready * calls_per_recipient / pace)
    for retry in sorted(retries, key=lambda retry: retry.due_at):
        hours = 0.0 if pace is None else retry.recipients * calls_per_recipient / pace
        end = _add(max(end, retry.due_at), hours)
    is_left = ready > 0 or any(retry.recipients for retry in retries)
    return end if is_left and end < now + FURTHEST else None


def measure_pace(calls: Sequence[SlotCalls], *, now: datetime, created_at: datetime | None) -> float | None:
    """Calls per hour since the first of the last hour; None if none began in it."""
    recent = [slot for slot in calls if now - RECENT <= slot.start <= now and slot.calls > 0]
    if not recent:
        return None
    first = min(slot.start for slot in recent)
    began = max(first, created_at) if created_at is not None and created_at <= now else first
    return sum(slot.calls for slot in recent) / (max(now - began, SHORTEST) / RECENT)


def find_busiest_pace(calls: Sequence[SlotCalls]) -> float | None:
    """Calls per hour in the quarter of an hour with most calls; None without calls."""
    most = max((slot.calls for slot in calls), default=0)
    return most * (RECENT / SLOT) if most > 0 else None


def _add(time: datetime, hours: float) -> datetime:
    """``time`` and so many hours, but not beyond what is an estimate at all, which the calendar might not hold."""
    return time + min(timedelta(hours=min(hours, 24.0 * 365)), 2 * FURTHEST)
