"""Query parameters and path ids, read once, with errors that name the parameter and what it takes."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request

from service.errors import InvalidRequestError, NotFoundError


def read_number(request: Request, name: str, default: int, *, minimum: int, maximum: int) -> int:
    """The whole number in query parameter ``name``; raises InvalidRequestError outside its range."""
    number = read_optional_number(request, name, minimum=minimum, maximum=maximum)
    return default if number is None else number


def read_optional_number(request: Request, name: str, *, minimum: int, maximum: int) -> int | None:
    """As ``read_number``, None when the parameter is absent."""
    text = request.query_params.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 19) or not minimum <= int(text) <= maximum:
        raise InvalidRequestError(f"{name}: takes a whole number from {minimum} to {maximum}")
    return int(text)


def read_flag(request: Request, name: str) -> bool:
    """Query parameter ``name`` as ``true`` or ``false`` (``1``, ``0``); false when it is absent."""
    return _to_flag(name, request.query_params.get(name, ""))


def _to_flag(name: str, text: str) -> bool:
    text = text.strip().lower()
    if text not in {"", "true", "false", "1", "0"}:
        raise InvalidRequestError(f"{name}: takes true or false")
    return text in {"true", "1"}


def read_id(request: Request, name: str, what: str) -> int:
    """The id in the path; what is no number is an unknown ``what``."""
    text: str = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFoundError(f"There is no {what} {text!r}")
    return int(text)


def read_time_zone(request: Request, name: str, default: str) -> str:
    """The time zone in query parameter ``name``, by its IANA name."""
    value = request.query_params.get(name, default)
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequestError(f"{name}: takes an IANA time zone such as Asia/Kolkata") from error


def read_choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """Query parameter ``name``, one of ``choices``; None when it is absent."""
    value = request.query_params.get(name)
    if value is not None and value not in choices:
        raise InvalidRequestError(f"{name}: takes one of {', '.join(choices)}")
    return value


def read_moment(request: Request, name: str, zone: tzinfo, *, ends_day: bool = False) -> datetime | None:
    """The time in query parameter ``name``, in UTC; None when it is absent. A day means its beginning in ``zone``, or
    its end where ``ends_day``."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        if len(text) == len("2026-03-16"):
            day = date.fromisoformat(text) + timedelta(days=1 if ends_day else 0)
            return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"{name}: takes a day or an ISO 8601 time, such as 2026-03-16T10:30:00Z") from error


def read_optional_time(request: Request, name: str) -> datetime | None:
    """The time in query parameter ``name``, ISO 8601 with its zone; None when it is absent.

    A plus sign that a client did not encode arrives as a space, and is taken for what it was.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text))
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequestError(f"{name}: takes a time with its zone, such as 2026-03-16T10:30:00Z")


class Fields:
    """The fields of a form; what it lacks is looked for among the query parameters."""

    def __init__(self, form: FormData, query: QueryParams) -> None:
        self._form = form
        self._query = query

    def read_text(self, name: str) -> str:
        """The field's text; "" when it is absent or a file."""
        value = self._form.get(name, self._query.get(name))
        return value if isinstance(value, str) else ""

    def read_flag(self, name: str) -> bool:
        """``true`` or ``false`` (``1``, ``0``); false when it is absent."""
        return _to_flag(name, self.read_text(name))

    def read_number(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """A whole number in its range."""
        text = self.read_text(name).strip()
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) <= 18 and minimum <= int(text) <= maximum):
            raise InvalidRequestError(f"{name}: takes a whole number from {minimum} to {maximum}")
        return int(text)

    def read_percent(self, name: str) -> float | None:
        """A number from 0 to 100, or None when it is absent."""
        text = self.read_text(name).strip()
        if not text:
            return None
        try:
            percent = float(text)
        except ValueError:
            percent = -1
        if not 0 <= percent <= 100:
            raise InvalidRequestError(f"{name}: takes a percentage from 0 to 100")
        return percent

    def read_choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``; the first when it is absent."""
        text = self.read_text(name).strip() or choices[0]
        if text not in choices:
            raise InvalidRequestError(f"{name}: takes one of {', '.join(choices)}")
        return text
