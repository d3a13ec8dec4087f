"""Times in the headers of another server's answer (RFC 9110): ``Date`` and ``Retry-After``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 1e9
"""More than 30 years is a slip, not a wait."""


def read_date(headers: Mapping[str, str]) -> datetime | None:
    """When the answer was made, by the other side's clock; None without a ``Date`` that can be read."""
    return _parse(headers.get("date", ""))


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``Retry-After`` asks for, as a number or as a date, 0 for a date that has passed; None without
    one that can be read."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        date = _parse(value)
        return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())
    return seconds if 0 <= seconds < LONGEST_SECONDS else None


def _parse(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
