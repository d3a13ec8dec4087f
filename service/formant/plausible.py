"""Plausible times and numbers. An implausible value from the provider is treated as absent.

Providers write "no time" as year 1, 1970 or 9999, and put epochs where a duration belongs. The limits are constants,
not relative to now, since bodies are decoded again when facts are verified and must give the same result. Postgres
reads the first and last moment of Python's calendar as infinities, so no time outside these limits may reach it. The
function plausible_time() in ``sql/functions`` has the same limits, for what older versions stored.
"""

from datetime import UTC, datetime

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""Exclusive."""
LONGEST_CALL_SECONDS = 86_400
"""A day. No call lasts that long, and every epoch since 1970-01-02 is larger."""
MAX_ATTEMPTS = 1_000
"""Far beyond any retry policy: contract, "Webhooks", names a handful."""
LARGEST_ID = 2**63 - 1
LARGEST_COUNT = 2**31 - 1


def plausible_time(time: datetime | None) -> datetime | None:
    """``time`` in UTC, or None outside 2000 to 2099. A time without a zone is taken as UTC."""
    if time is None:
        return None
    if time.tzinfo is not UTC:
        try:
            time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except OverflowError:  # year 1 or 9999, whose zone offset leaves the calendar
            return None
    return time if EARLIEST <= time < LATEST else None


def plausible_epoch(number: float | None) -> datetime | None:
    """The time of an epoch in seconds or milliseconds, whose plausible ranges do not overlap; or None."""
    if number is None or not 0 <= number < LATEST.timestamp() * 1000:
        return None
    return plausible_time(datetime.fromtimestamp(number if number < LATEST.timestamp() else number / 1000, UTC))


def plausible_duration(seconds: float | None) -> int | None:
    """The duration of a call in whole seconds, or None."""
    return within(seconds, 0, LONGEST_CALL_SECONDS)


def plausible_attempts(number: float | None) -> int | None:
    """An attempt number or a maximum of attempts, or None."""
    return within(number, 1, MAX_ATTEMPTS)


def within(number: float | None, least: int, most: int) -> int | None:
    """``number`` rounded to a whole number, or None outside the limits."""
    return round(number) if number is not None and least <= number <= most else None
