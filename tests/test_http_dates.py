"""Parses ``Retry-After`` in both of its forms, ``Date``, and any other text in them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http_dates import read_date, read_retry_after


def read(value: str) -> float | None:
    return read_retry_after({"retry-after": value})


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("7", 7.0), (" 1.5 ", 1.5), ("86400", 86_400.0)])
def test_a_number_is_read_as_seconds(value: str, seconds: float) -> None:
    assert read(value) == seconds


def test_a_date_is_read_as_the_seconds_until_then_or_zero() -> None:
    later, earlier = (
        format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True) for seconds in (3600, -60)
    )
    assert 3500 < (read(later) or 0) <= 3600
    assert read(earlier) == 0.0


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e400", "soon", "Mon, 99 Nov 2026 00:00:00 GMT"])
def test_an_invalid_value_is_none(value: str) -> None:
    assert read(value) is None


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_no_value_raises_an_error(value: str) -> None:
    assert (read(value) or 0.0) >= 0.0


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0000"])
def test_a_date_is_in_utc_for_any_name_of_utc(zone: str) -> None:
    assert read_date({"date": f"Mon, 16 Mar 2026 10:30:00 {zone}"}) == datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
    assert read_date({"date": "yesterday"}) is read_date({}) is None
