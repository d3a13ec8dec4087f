"""Retries outstanding: how many recipients wait for one, and when.

The counters behind it are by minute, so a retry is ``overdue`` once the minute in which it was due has passed, and the
times told are to the minute. ``earliest_at`` may be past: then it is the longest overdue.
"""

from datetime import datetime
from typing import Any

import msgspec

PRECISION_SECONDS = 60


class RetryCounts(msgspec.Struct):
    """Recipients that wait for a retry, by when it is due, as of one instant."""

    overdue: int = 0
    due_within_hour: int = 0
    due_later: int = 0
    without_time: int = 0
    earliest_at: datetime | None = None
    next_at: datetime | None = None


def describe_retries(counts: RetryCounts | None, outstanding: int) -> dict[str, Any]:
    """``outstanding`` is the sum of the four counts; these are null where they are not known."""
    times = dict.fromkeys(RetryCounts.__struct_fields__) if counts is None else msgspec.structs.asdict(counts)
    return {"outstanding": outstanding, **times, "precision_seconds": PRECISION_SECONDS}
