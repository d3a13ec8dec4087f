"""Values that rules of the targets file ask for, and how values of calls are compared with them.

Text matches whatever its case, its surrounding blanks and its spelling in Unicode; numbers match by their value, also
as text (5, 5.0, "5"), and so do true and false. A list matches by any of its elements. ``fold`` is the rule, the same
as ``fold_value()`` in the database, by which goals are compared.
"""

import json
import re
from decimal import Decimal
from typing import Any, TypeAlias
from unicodedata import normalize

Wanted: TypeAlias = str | bool | int | float
LONGEST_NUMBER = 80
"""Longer text is no number, nor is one with an exponent of four digits."""
BLANKS = " \t\n\r\f\v\x1c-\x1f\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
"""All that Unicode calls a space, and what is as invisible: the inside of a character class."""
_AROUND = re.compile(f"^[{BLANKS}]+|[{BLANKS}]+$")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?")
_VISIBLE = re.compile(f"[^{BLANKS}]")


def says_something(value: Any) -> bool:
    """Whether JSON contains, at any depth, a number, a boolean, or text that is not blank."""
    waiting = [value]  # no recursion: values may be nested deeply
    while waiting:
        match waiting.pop():
            case dict() as found:
                waiting += found.values()
            case list() as found:
                waiting += found
            case str() as found:
                if _VISIBLE.search(found):
                    return True
            case found if found is not None:
                return True
    return False


def fold(value: Any) -> str | None:
    """A value as it is compared; None for one that matches nothing."""
    if isinstance(value, str):
        folded = normalize("NFKC", normalize("NFKD", value).casefold())
        text = _AROUND.sub("", folded)
        return _show_number(text) if len(text) <= LONGEST_NUMBER and _NUMBER.fullmatch(text) else text
    if isinstance(value, bool):
        return "true" if value else "false"
    return _show_number(str(value)) if isinstance(value, (int, float, Decimal)) else None


def list_folded(value: Any) -> list[str]:
    """A value, or each element of a list, as it is compared."""
    return [text for each in (value if isinstance(value, list) else [value]) if (text := fold(each)) is not None]


def _show_number(text: str) -> str:
    """A number without exponent and needless zeros, as Postgres shows a ``numeric``."""
    shown = format(Decimal(text), "f")
    if "." in shown:
        shown = shown.rstrip("0").removesuffix(".")
    return "0" if shown == "-0" else shown


def read_object(text: str) -> dict[str, Any]:
    """JSON text as an object; empty where it is none."""
    try:
        content = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
