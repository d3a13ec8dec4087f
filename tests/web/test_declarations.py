"""Declared parameters: what each takes, and that what it documents is what it takes."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.errors import InvalidRequestError
from service.uploads.fields import IDEMPOTENCY_KEY
from service.web.parameters import Choice, Choices, Flag, Number, Parameter, Percent, Text
from service.web.times import LATEST, Moment, TimeZone

LIMIT = Number("limit", "", default=20, minimum=-5, maximum=100)
FROM, TO = Moment("from", "", day="begins"), Moment("to", "", day="ends")
AS_OF, AT_FIVE = Moment("as_of", ""), datetime(2026, 3, 16, 5, tzinfo=UTC)
TAKEN: list[tuple[Parameter[Any, Any], dict[str, object]]] = [
    (LIMIT, {"1": 1, "100": 100, "-5": -5, "007": 7, "-0": 0}),
    (Percent("share", "", default=None), {"0": 0.0, "100": 100.0, "62.5": 62.5, "1e1": 10.0}),
    (Flag("force", ""), {"true": True, "1": True, " TRUE ": True, "false": False, "0": False, "": False}),
    (Choice("state", "", ("held", "failed"), default=None), {"held": "held", "failed": "failed"}),
    (Choices("state", "", ("held", "failed")), {"held": ("held",), "failed,held,failed": ("failed", "held")}),
    (Text("name", "", default=None, maximum=5), {"April": "April", " May ": "May", "अप्रैल"[:5]: "अप्रैल"[:5]}),
    (TimeZone("zone", "", default="UTC"), {"Asia/Kolkata": "Asia/Kolkata", "UTC": "UTC"}),
    (
        FROM,
        {
            "2026-03-16": datetime(2026, 3, 16, tzinfo=UTC),
            "2026-03-16T10:30": datetime(2026, 3, 16, 10, 30, tzinfo=UTC),
        },
    ),
    (TO, {"2026-03-16": datetime(2026, 3, 17, tzinfo=UTC), "9999-12-31": LATEST}),
    (AS_OF, dict.fromkeys(("2026-03-16T10:30:00+05:30", "2026-03-16 10:30 05:30", "20260316T050000Z"), AT_FIVE)),
    (IDEMPOTENCY_KEY, {'"march 1"': "march 1", "march-1": "march-1"}),
]
REFUSED: list[tuple[Parameter[Any, Any], list[str]]] = [
    (LIMIT, ["", "101", "-6", "1.0", "1_0", "+1", " 1", "٣", "9" * 20, "--1", "-", "0x1"]),
    (Percent("share", "", default=None), ["", "-1", "100.1", "nan", "inf", "1_0", "half"]),
    (Flag("force", ""), ["yes", "2", "tru"]),
    (Choice("state", "", ("held", "failed"), default=None), ["", "Held", "held,failed"]),
    (Choices("state", "", ("held", "failed")), ["", ",", "held,", "held, failed", "Held"]),
    (Text("name", "", default=None, maximum=5), ["", "  ", "August", "a\x00b"]),
    (TimeZone("zone", "", default="UTC"), ["", "Mars/Olympus", "../etc/passwd", "UTC\x00", "a" * 5000]),
    (FROM, ["", "20260316", "2026-W12", "2026-W12-1", "2026-02-30", "٢٠٢٦-03-16", "0001-01-01T00:00+14:00", "today"]),
    (AS_OF, ["", "2026-03-16", "2026-03-16T10:30:00", "2026-03-16T10:30:00ZZ"]),
    (IDEMPOTENCY_KEY, ["", '""', "march 1", '"a"b"', "é", "x" * 256]),
]


@pytest.mark.parametrize(("parameter", "texts"), TAKEN)
def test_valid_texts_are_parsed(parameter: Parameter[Any, Any], texts: dict[str, object]) -> None:
    assert {text: parameter.parse(text) for text in texts} == texts


@pytest.mark.parametrize(("parameter", "texts"), REFUSED)
def test_everything_else_is_refused_by_the_parameters_name(parameter: Parameter[Any, Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(InvalidRequestError) as caught:
            parameter.parse(text)
        assert caught.value.message == f"{parameter.name}: takes {parameter.takes}"


def test_the_default_is_documented_where_there_is_one() -> None:
    assert LIMIT.schema == {"type": "integer", "minimum": -5, "maximum": 100, "default": 20}
    assert "default" not in Percent("share", "", default=None).schema
    assert Flag("force", "").schema["default"] is False


@pytest.mark.parametrize(
    ("zone", "day", "begins", "ends"),
    [
        ("UTC", "2026-03-16", "2026-03-16T00:00Z", "2026-03-17T00:00Z"),
        ("Asia/Kolkata", "2026-03-16", "2026-03-15T18:30Z", "2026-03-16T18:30Z"),
        ("Asia/Kathmandu", "2026-03-16", "2026-03-15T18:15Z", "2026-03-16T18:15Z"),
        ("Pacific/Chatham", "2026-04-05", "2026-04-04T10:15Z", "2026-04-05T11:15Z"),  # 25 hours, offset 13:45
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30Z", "2026-10-04T13:00Z"),  # clocks go half an hour
        ("America/New_York", "2026-03-08", "2026-03-08T05:00Z", "2026-03-09T04:00Z"),  # 23 hours
        ("America/New_York", "2026-11-01", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),  # 25 hours
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00Z", "2026-04-24T21:00Z"),  # its midnight is skipped
        ("America/Havana", "2026-11-01", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),  # its midnight comes twice
    ],
)
def test_a_day_is_that_day_of_its_zone_from_its_first_instant_to_the_next_days(
    zone: str, day: str, begins: str, ends: str
) -> None:
    assert FROM.parse_in(day, ZoneInfo(zone)) == datetime.fromisoformat(begins)
    assert TO.parse_in(day, ZoneInfo(zone)) == datetime.fromisoformat(ends)


def test_a_time_without_an_offset_is_one_of_the_zone_and_another_stays_what_it_is() -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    for moment in (FROM, TO):
        assert moment.parse_in("2026-03-16T10:45", zone) == AT_FIVE
        assert moment.parse_in("2026-03-16T05:00Z", zone) == AT_FIVE
