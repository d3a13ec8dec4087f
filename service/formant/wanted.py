"""Values that rules of the targets file ask for, and how values of calls are compared with them.

Text matches whatever its case and surrounding blanks; numbers and true or false match themselves.
"""

import json
from typing import Any, TypeAlias

Wanted: TypeAlias = str | bool | int


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
