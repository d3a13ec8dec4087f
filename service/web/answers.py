"""The frames of answers: one thing, or a page of many."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

import msgspec

Shape = TypeVar("Shape")
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset from UTC."""


class One(msgspec.Struct, Generic[Shape]):
    """One thing, in ``data``."""

    data: Shape


class Page(msgspec.Struct, Generic[Shape]):
    """A page of a list. Ask for the one behind it with ``after`` = ``next``; there is none where ``next`` is null."""

    data: list[Shape]
    next: int | None
    has_more: bool


def to_page(rows: list[Shape], limit: int, key: str) -> Page[Shape]:
    """A page of at most ``limit`` rows; one row more tells that there is more. ``key`` is the cursor's field."""
    has_more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, getattr(rows[-1], key) if has_more else None, has_more)
