"""Reads JSON that violates the contract, as far as it makes sense: each field on its own.

What Postgres cannot store as text or JSON (NUL, lone surrogates, NaN and infinities) is replaced. The raw body, stored
as well, stays unchanged.
"""

import json
import math
import re
from datetime import datetime

import msgspec

EXACT_FLOAT = 2**53
"""From here on, several whole numbers map to the same float."""
LONGEST_INT = 20
"""Digits of the longest bigint, with its sign."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_decode_time = msgspec.json.Decoder(datetime).decode


def decode_leniently(body: bytes) -> object:
    """The JSON in ``body``, storable; or, as a str, the reason why it cannot be read.

    A body that is a JSON string also gives a reason, ``not_an_object``, since callers only need objects.
    """
    try:
        text = body.decode("utf-8-sig", errors="replace")
        content = _make_storable(json.loads(text, parse_int=_read_int))
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
    """An ISO 8601 time with or without a zone, or None."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        return _decode_time(msgspec.json.encode(value))
    except msgspec.MsgspecError:
        return None


def to_json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _read_int(digits: str) -> float:
    # int() is slow for thousands of digits, and Python refuses more than 4,300.
    # A number that fits a bigint stays exact, since ids are that long.
    number = int(digits) if len(digits) <= LONGEST_INT else None
    return number if number is not None and -(2**63) <= number < 2**63 else float(digits)


def _make_storable(value: object) -> object:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_UNSTORABLE.sub("\ufffd", key): _make_storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_make_storable(item) for item in value]
    return value
