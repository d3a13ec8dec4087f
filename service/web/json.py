"""JSON answers, encoded by msgspec: times as ISO 8601 in UTC, JSON from the database passed through as it is."""

from typing import Any

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder(decimal_format="number").encode


class JsonResponse(Response):
    """An answer with a JSON body; ``content`` may hold structs, dicts, lists, times and ``msgspec.Raw``."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON text of the database, to be passed through."""
    return None if text is None else msgspec.Raw(text)
