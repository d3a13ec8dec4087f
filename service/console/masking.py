"""Hides people from those who may not see them, as the views of the `bi` schema do.

A phone keeps its first and last three characters, and parameters keep their names. Results stay, because they are what
the figures count, but phone numbers and addresses in them are hidden.
"""

import re
from typing import Any

HIDDEN = "•••"
MASKED = "(masked)"
MIN_SHOWN = 9
"""Shorter phones are hidden whole."""
FOREIGN_IDS = ("event_id", "conversation_id", "trace_id")
_DATE = r"\b(?:19|20)\d\d-[01]\d-[0-3]\d"
_TIME = r"[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-][0-2]\d:?[0-5]\d)?"
# Begins at the start of a word and gives nothing back: texts come from outside, and may be long words without an @.
_ADDRESS = re.compile(r"(?<![^\s@])[^\s@]++@[^\s@]++")
_SENSITIVE = re.compile(
    rf"(?P<kept>{_DATE}(?:{_TIME})?(?!\d))"
    r"|\+?\d(?:[\W_]{0,3}\d){6,}"
)


def mask_phone(phone: str | None) -> str | None:
    """``+91*******210``."""
    if phone is None:
        return None
    return phone[:3] + "*" * (len(phone) - 6) + phone[-3:] if len(phone) >= MIN_SHOWN else "*" * len(phone)


def mask_text(text: str) -> str:
    """The text without phone numbers (seven digits or more, in any script) and mail addresses. Dates stay."""
    return _SENSITIVE.sub(lambda match: match["kept"] or MASKED, _ADDRESS.sub(MASKED, text))


def mask_value(value: Any) -> Any:
    """A JSON value with its texts masked, and its numbers where they may be phones."""
    if isinstance(value, dict):
        return {mask_text(str(name)): mask_value(each) for name, each in value.items()}
    if isinstance(value, list):
        return [mask_value(each) for each in value]
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and mask_text(str(value)) != str(value):
        return MASKED
    return value


def mask_ids(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose ids were made outside, and may be made from a phone, without phones in them."""
    return row | {name: mask_text(row[name]) for name in FOREIGN_IDS if row.get(name)}


def mask_recipient(row: dict[str, Any]) -> dict[str, Any]:
    """A recipient's row of the API without the person."""
    parameters = row.get("parameters")
    return row | {
        "phone": mask_phone(row.get("phone")),
        "parameters": {mask_text(name): HIDDEN for name in parameters} if isinstance(parameters, dict) else parameters,
        "results": mask_value(row.get("results")),
        "failure_reason": mask_text(row.get("failure_reason") or "") or None,
    }
