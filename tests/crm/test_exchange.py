"""``Retry-After`` in both of its forms, and whatever else stands there."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.crm.exchange import Answer, read_message, read_retry_after


def read(value: str) -> float | None:
    return read_retry_after(Answer(429, {"retry-after": value}, b""))


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("7", 7.0), (" 1.5 ", 1.5), ("86400", 86_400.0)])
def test_seconds_are_seconds(value: str, seconds: float) -> None:
    assert read(value) == seconds


def test_a_date_is_the_time_until_then_and_never_less_than_none() -> None:
    later, earlier = (
        format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True) for seconds in (3600, -60)
    )
    assert 3500 < (read(later) or 0) <= 3600
    assert read(earlier) == 0.0


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e400", "soon", "Mon, 99 Nov 2026 00:00:00 GMT"])
def test_what_says_nothing_is_nothing(value: str) -> None:
    assert read(value) is None


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_nothing_that_stands_there_is_an_error(value: str) -> None:
    assert (read(value) or 0.0) >= 0.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "no scope"}', ": no scope"),
        (b'{"error": {"message": "no such loan", "type": "x"}}', ": no such loan"),
        (b'{"error": "no such loan"}', ": no such loan"),
        (b"<html>", ""), (b"", ""), (b"[1]", ""), (b'{"message": 1}', ""), (b"\\xff", ""), (b'{"a":' * 9999, ""),
    ],
)  # fmt: skip
def test_the_message_of_a_refusal_is_found_in_the_usual_shapes(body: bytes, message: str) -> None:
    assert read_message(body) == message
