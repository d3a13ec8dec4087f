"""Which texts are times: all forms of ISO 8601 and RFC 3339 that name a moment, for every reader of them."""

from datetime import UTC, datetime, timedelta

import pytest

from service.formant.lenient import to_time
from tests.factories import decode, make_payload

MIDNIGHT = datetime(2026, 11, 29, tzinfo=UTC)
EVENING = datetime(2026, 11, 28, 20, tzinfo=UTC)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
TIMES = {
    "2026-11-28T24:00:00Z": MIDNIGHT, "2026-11-28T24:00Z": MIDNIGHT, "20261128T240000Z": MIDNIGHT,
    "2026-11-28t24:00:00.000z": MIDNIGHT, "2026-11-28 24:00:00+00:00": MIDNIGHT,
    "2026-11-28T24:00:00+05:30": MIDNIGHT - timedelta(hours=5, minutes=30), "2026-12-31T24:00:00Z": NEW_YEAR,
    "2024-02-28T24:00:00Z": datetime(2024, 2, 29, tzinfo=UTC), "2026-W48-6T24:00Z": MIDNIGHT,
    "2026-12-31T23:59:60Z": NEW_YEAR, "20261231T235960Z": NEW_YEAR, "2026-12-31 23:59:60+00:00": NEW_YEAR,
    "2026-12-31T23:59:60.25Z": NEW_YEAR + timedelta(milliseconds=250), "2027-01-01T05:29:60+05:30": NEW_YEAR,
    "2026-332T20:00Z": EVENING, "2026332T200000Z": EVENING, "2026-332T24:00:00Z": MIDNIGHT,
    "2024-366T23:59:60Z": datetime(2025, 1, 1, tzinfo=UTC), "2026-365T23:59:60Z": NEW_YEAR,
    "2026-W48-6T20:00Z": EVENING, "2026-11-28T20:00Z": EVENING,
    "2026-11-28T20:00:00,5Z": EVENING + timedelta(seconds=0.5),
}  # fmt: skip
NO_TIMES = (
    "2026-11-28T24:00:01Z", "2026-11-28T24:30Z", "2026-11-28T24:00:60Z", "2026-11-28T25:00Z", "2026-11-28T23:59:61Z",
    "2026-11-28T23:60:00Z", "2026-366T00:00Z", "2026-000T00:00Z", "2026-332", "9999-12-31T24:00:00Z", "T24:00",
    "2026-02-30T24:00Z", "24:00", "2026-11-28T20:00:00 60",
)  # fmt: skip


@pytest.mark.parametrize(("text", "moment"), TIMES.items())
def test_midnight_at_the_end_of_a_day_leap_seconds_and_days_of_the_year_are_times(text: str, moment: datetime) -> None:
    assert to_time(text) == moment
    payload = make_payload()
    payload["timestamp"] = payload["data"]["call"]["started_at"] = payload["data"]["retry"]["next_retry_at"] = text
    (event,) = decode(payload)
    assert (event.occurred_at, event.started_at, event.next_retry_at) == (moment,) * 3


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_names_no_moment_is_no_time(text: str) -> None:
    assert to_time(text) is None
