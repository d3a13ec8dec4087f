"""Values that rules of the targets file ask for, and how values of calls are compared with them.

Text matches whatever its case and surrounding blanks; numbers and true or false match themselves.
"""

import json
import re
from typing import Any, TypeAlias

Wanted: TypeAlias = str | bool | int
BLANKS = " \t\n\r\f\v\x1c-\x1f\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
"""All that Unicode calls a space, and what is as invisible: the inside of a character class."""
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
        return value.strip().casefold()
    return json.dumps(value) if isinstance(value, int) else None


def read_object(text: str) -> dict[str, Any]:
    """JSON text as an object; empty where it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
