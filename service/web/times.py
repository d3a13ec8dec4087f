"""Parameters that are times. Days are those of ``time_zone``. A period includes its last day, but not an end given as a
time."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.requests import Request

from service.errors import InvalidRequestError
from service.web.parameters import Parameter, Schema

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class TimeZone(Parameter[str, str]):
    """A time zone by its IANA name."""

    is_impersonal = True

    def __init__(self, name: str, description: str, *, default: str) -> None:
        schema: Schema = {"type": "string", "examples": ["Asia/Kolkata"]}
        super().__init__(name, description, "an IANA time zone such as Asia/Kolkata", schema, default)

    def _parse(self, text: str) -> str:
        try:
            return ZoneInfo(text).key
        except (ZoneInfoNotFoundError, OSError) as error:
            raise ValueError(text) from error


class Moment(Parameter[datetime, None]):
    """A time with its offset, converted to UTC. With ``day``, it also takes a day of a time zone, which means the
    instant at which the day begins or ends, and a time without an offset, which is one of that zone.

    A plus sign that was not encoded arrives as a space, and is read as a plus.
    """

    is_impersonal = True

    def __init__(self, name: str, description: str, *, day: Literal["begins", "ends"] | None = None) -> None:
        example = "2026-03-16T10:30:00Z"
        takes = f"a day or an ISO 8601 time, such as {example}" if day else f"a time with its zone, such as {example}"
        schema: Schema = {"type": "string", "examples": ["2026-03-16", example] if day else [example]}
        super().__init__(name, description, takes, schema, None)
        self._day = day

    def read_in(self, request: Request, zone: tzinfo) -> datetime | None:
        """Like ``read``, with days of ``zone``."""
        text = request.query_params.get(self.name)
        return None if text is None else self.parse_in(text, zone)

    def read_day(self, request: Request) -> date | None:
        """The day that was given; None for a time, or nothing. Raises InvalidRequestError for a day that is none."""
        text = request.query_params.get(self.name)
        if text is None or not self._day or not DAY.fullmatch(text):
            return None
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise InvalidRequestError(f"{self.name}: takes {self.takes}") from error

    def parse_in(self, text: str, zone: tzinfo) -> datetime:
        """Like ``parse``, with days of ``zone``."""
        try:
            return self._parse_in(text, zone)
        except (ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{self.name}: takes {self.takes}") from error

    def _parse(self, text: str) -> datetime:
        return self._parse_in(text, UTC)

    def _parse_in(self, text: str, zone: tzinfo) -> datetime:
        if self._day and DAY.fullmatch(text):
            day = date.fromisoformat(text)
            if self._day == "ends" and day < date.max:
                day += timedelta(days=1)
            # A skipped midnight means the instant at which the clocks change; of a repeated one, the first counts.
            return _to_utc(datetime.combine(day, time.min, zone))
        if len(text) <= len("2026-03-16"):  # other ways to write a day
            raise ValueError(text)
        moment = datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text))
        if moment.tzinfo is None and not self._day:
            raise ValueError(text)
        return _to_utc(moment if moment.tzinfo else moment.replace(tzinfo=zone))


class Period:
    """``from``, ``to`` and ``time_zone``. ``what`` completes "Only WHAT before this time"."""

    def __init__(
        self, what: str, *, default_time_zone: str, zone_text: str = "Time zone of days: an IANA name"
    ) -> None:
        self._start = Moment(
            "from", f"Only {what} on or after this day of `time_zone`, or since this time", day="begins"
        )
        self._end = Moment("to", f"Only {what} on or before this day of `time_zone`, or before this time", day="ends")
        self._time_zone = TimeZone("time_zone", zone_text, default=default_time_zone)
        self.parameters = (self._start, self._end, self._time_zone)

    def read(self, request: Request) -> tuple[datetime | None, datetime | None, ZoneInfo]:
        """The start (included) and end (excluded) in UTC, and the zone. Raises InvalidRequestError, also for a period
        that is empty or begins in the future."""
        zone = ZoneInfo(self._time_zone.read(request))
        start, end = self._start.read_in(request, zone), self._end.read_in(request, zone)
        if start is not None and start > datetime.now(UTC):
            raise InvalidRequestError("from: is in the future; give an earlier day or time")
        if start is not None and end is not None and start >= end:
            raise InvalidRequestError("from, to: the period must end after it begins")
        return start, end, zone


def _to_utc(moment: datetime) -> datetime:
    """The time in UTC, clamped to ``EARLIEST`` and ``LATEST``: nothing is stored beyond them, and times at the ends of
    the calendar cannot be converted to other zones. Raises OverflowError where the conversion to UTC fails."""
    return min(max(moment.astimezone(UTC), EARLIEST), LATEST)
