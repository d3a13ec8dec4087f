"""Single parameters, read by name where an operation does not declare them yet: see ``declarations``."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

from starlette.requests import Request

from service.web.declarations import Choice, Flag, Id, Moment, Number, TimeZone


def read_number(request: Request, name: str, default: int, *, minimum: int, maximum: int) -> int:
    """The whole number in query parameter ``name``; raises InvalidRequestError outside its range."""
    return Number(name, "", default=default, minimum=minimum, maximum=maximum).read(request)


def read_optional_number(request: Request, name: str, *, minimum: int, maximum: int) -> int | None:
    """As ``read_number``, None when the parameter is absent."""
    return Number(name, "", default=None, minimum=minimum, maximum=maximum).read(request)


def read_flag(request: Request, name: str) -> bool:
    """Query parameter ``name`` as ``true`` or ``false`` (``1``, ``0``); false when it is absent."""
    return Flag(name, "").read(request)


def read_id(request: Request, name: str, what: str) -> int:
    """The id in the path; what is no number is an unknown ``what``."""
    return Id(name, what, "").read(request)


def read_time_zone(request: Request, name: str, default: str) -> str:
    """The time zone in query parameter ``name``, by its IANA name."""
    return TimeZone(name, "", default=default).read(request)


def read_choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """Query parameter ``name``, one of ``choices``; None when it is absent."""
    return Choice(name, "", tuple(choices), default=None).read(request)


def read_moment(request: Request, name: str, zone: tzinfo, *, ends_day: bool = False) -> datetime | None:
    """The time in query parameter ``name``, in UTC; None when it is absent. A day means its beginning in ``zone``, or
    its end where ``ends_day``."""
    return Moment(name, "", ends_day=ends_day).read_in(request, zone)
