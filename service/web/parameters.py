"""Query parameters and path ids, read once, with errors that name the parameter and what it takes."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
