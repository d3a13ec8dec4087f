"""Reads JSON that violates the contract, as far as it makes sense: each field on its own.

What Postgres cannot store as text (NUL and lone surrogates) is replaced. NaN, the infinities and a number that no
double holds become text, as they came; -0 is 0, since Postgres knows no other. The raw body, stored as well, stays
unchanged.
"""

import json
import math
import re
from calendar import isleap
from datetime import datetime, timedelta

import msgspec

from service.formant.plausible import plausible_epoch

EXACT_FLOAT = 2**53
"""From here on, several whole numbers map to the same float."""
LONGEST_INT = 20
"""Digits of the longest bigint, with its sign."""

LARGEST_EXPONENT = 308
_EXPONENT = re.compile(r"[0-9][eE][+-]?[0-9]{3}")
_LONG_NUMBER = re.compile(rf"[0-9]{{{LARGEST_EXPONENT + 1}}}")
_STRING_OR_NUMBER = re.compile(r'(?s)"(?:[^"\\]++|\\.?)*+"?|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DAY_OF_YEAR = re.compile(r"([0-9]{4})(-?)([0-9]{3})(?=[T ])")
_END_OF_DAY = re.compile(r"[T ](24)(?=(?::?00(?::?00(?:[.,]0+)?)?)?(?:$| ?[Z+-]))")
_LEAP_SECOND = re.compile(r"[T ][0-9]{2}:?[0-9]{2}:?(60)(?=$|[.,]| ?[Z+-])")
_decode_time = msgspec.json.Decoder(datetime).decode


def decode_leniently(body: bytes) -> object:
    """The JSON in ``body``, storable; or, as a str, the reason why it cannot be read.

    A body that is a JSON string also gives a reason, ``not_an_object``, since callers only need objects.
    """
    try:
        text = body.decode("utf-8-sig", errors="replace")
        content = _make_storable(json.loads(text, parse_int=_read_int, parse_float=_read_float, parse_constant=str))
    except RecursionError:
        return "too_deep"
    except ValueError:
        return "not_json"
    return "not_an_object" if isinstance(content, str) else content


def read_data(body: bytes) -> object:
    """The value of ``data`` in an answer's body, read leniently; None where there is none."""
    content = decode_leniently(body)
    return content.get("data") if isinstance(content, dict) else None


def to_text(value: object) -> str | None:
    """Text unchanged, numbers in their usual form, otherwise None. A float too large to be exact is None too: as an id
    it could stand for several."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and abs(value) >= EXACT_FLOAT:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def to_int(value: object) -> int | None:
    """A whole number, also from a float or from text."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) > 18 else int(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return round(value)


def to_float(value: object) -> float | None:
    """A finite number, also from text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def to_time(value: object) -> datetime | None:
    """An ISO 8601 time with or without a zone, or an epoch in seconds or milliseconds, also as text; or None. A day
    without a time is None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return plausible_epoch(value)
    if not isinstance(value, str) or len(value) > 64:
        return None
    text = value.strip()
    try:
        return _decode_time(msgspec.json.encode(text))
    except msgspec.MsgspecError:
        pass
    if re.fullmatch(r"[0-9]+(?:\.[0-9]*)?", text, re.ASCII):
        return plausible_epoch(float(text))
    try:
        text, later = _name_usual(text.upper())
        return datetime.fromisoformat(text) + later if ":" in text or "T" in text else None
    except (ValueError, OverflowError):
        return None


def _name_usual(text: str) -> tuple[str, timedelta]:
    """A time that ``fromisoformat`` reads, and how much later the given one is: 24:00 is midnight at the end of the
    day, the leap second :60 the one after :59 (ISO 8601, RFC 3339), and YYYY-DDD is a day of the year."""
    later = timedelta()
    if found := _DAY_OF_YEAR.match(text):
        later += timedelta(days=int(found[3]) - 1)
        text = f"{found[1]}{found[2]}01{found[2]}01{text[found.end() :]}"
        if not 1 <= int(found[3]) <= 365 + isleap(int(found[1])):
            raise ValueError(f"no such day: {found[3]}")
    if found := _END_OF_DAY.search(text):
        later += timedelta(days=1)
        text = f"{text[: found.start(1)]}00{text[found.end(1) :]}"
    if found := _LEAP_SECOND.search(text):
        later += timedelta(seconds=1)
        text = f"{text[: found.start(1)]}59{text[found.end(1) :]}"
    return text, later


def bound_numbers(text: str) -> str:
    """JSON text in which a number that no double holds is a string, as it came.

    As a number, Postgres would write 1e400 with 401 digits, and its readers would take it for infinite.
    """
    if _EXPONENT.search(text) is None and (len(text) <= LARGEST_EXPONENT or _LONG_NUMBER.search(text) is None):
        return text
    return _STRING_OR_NUMBER.sub(_bound_number, text)


def _bound_number(match: re.Match[str]) -> str:
    token = match[0]
    return token if token.startswith('"') or isinstance(_read_float(token), float) else f'"{token}"'


def to_json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _read_int(digits: str) -> float | str:
    # int() is slow for thousands of digits, and Python refuses more than 4,300.
    # A number that fits a bigint stays exact, since ids are that long.
    number = int(digits) if len(digits) <= LONGEST_INT else None
    return number if number is not None and -(2**63) <= number < 2**63 else _read_float(digits)


def _read_float(digits: str) -> float | str:
    """A number, or its text if a double would make it infinite or zero."""
    number = float(digits)
    is_lost = not math.isfinite(number) or (number == 0 and digits.lower().partition("e")[0].strip("-0.") != "")
    return digits if is_lost else number


def _make_storable(value: object) -> object:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_UNSTORABLE.sub("\ufffd", key): _make_storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_make_storable(item) for item in value]
    return value
