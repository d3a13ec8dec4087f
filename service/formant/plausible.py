"""Times and numbers that can be true. The rule for all that the provider says: one that cannot be true is absent.

Providers write "no time" as year 1, 1970 or 9999, and put epochs where a duration belongs. The limits are constants and
not relative to now: bodies are decoded again when facts are verified, and must give the same then. Postgres reads the
first and the last moment of Python's calendar as infinities, so nothing outside these limits may reach it. The function
plausible_time() in ``sql/functions`` has the same limits, for what older versions stored.
"""

from datetime import UTC, datetime

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""The first moment that is too late."""
LONGEST_CALL_SECONDS = 86_400
"""A day. No carrier keeps a call for that long, and no epoch since 1970-01-02 is that small."""
MOST_ATTEMPTS = 1_000
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
        except OverflowError:  # year 1 or 9999, in a zone that leads out of the calendar
            return None
    return time if EARLIEST <= time < LATEST else None


def plausible_epoch(number: float | None) -> datetime | None:
    """The time that an epoch means, in seconds or milliseconds: their plausible ranges do not overlap."""
    if number is None or not 0 <= number < LATEST.timestamp() * 1000:
        return None
    return plausible_time(datetime.fromtimestamp(number if number < LATEST.timestamp() else number / 1000, UTC))


def plausible_duration(seconds: float | None) -> int | None:
    """Whole seconds of a call, or None."""
    return within(seconds, 0, LONGEST_CALL_SECONDS)


def plausible_attempts(number: float | None) -> int | None:
    """The number of an attempt, or how many are made at most; or None."""
    return within(number, 1, MOST_ATTEMPTS)


def within(number: float | None, least: int, most: int) -> int | None:
    """``number`` rounded to a whole one, or None outside the limits."""
    return round(number) if number is not None and least <= number <= most else None
