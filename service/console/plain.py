"""Messages of the API without its calls: who reads a page calls nothing by hand."""

import re

_CALL = re.compile(
    r"(?:\s*[:;,]\s*|\s+)?(?:and )?(?:if you know, say so: |see |set one first with )?"
    r"`?\b(?:GET|PUT|POST|DELETE) (?:/v1/|…/)[^\s)`,;]*`?(?: shows (?:it|them|the reason))?"
)
_EMPTY = re.compile(r"\s*\(\s*\)")


def hide_calls(text: str) -> str:
    """``… (upload 7: see GET /v1/uploads/7)`` becomes ``… (upload 7)``."""
    return _EMPTY.sub("", _CALL.sub("", text))
