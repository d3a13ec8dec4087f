"""``agent_id``, ``limit`` and ``offset`` of the provider's lists."""

from typing import Any

from starlette.requests import Request

from service.sandbox.errors import ProviderError
from service.sandbox.faults import Faults

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100


def read_page(request: Request, faults: Faults) -> tuple[int, int]:
    """(limit, offset); raises ``ProviderError`` 400 when one is no number or out of range."""
    limit = read_number(request, "limit", _DEFAULT_LIMIT)
    offset = read_number(request, "offset", 0)
    if not 1 <= limit <= _MAX_LIMIT:
        raise ProviderError(400, f"limit must be between 1 and {_MAX_LIMIT}.")
    if offset < 0:
        raise ProviderError(400, "offset must not be negative.")
    return limit, 0 if faults.ignore_offset else offset


def describe_end(faults: Faults, end: int, total: int) -> dict[str, Any]:
    """What a list says of its end."""
    return {"has_more": faults.always_more or end < total, "total": total}


def read_agent(request: Request) -> int | None:
    """The agent to filter by, or None; raises ``ProviderError`` 400 when it is no number."""
    return read_number(request, "agent_id", 0) if "agent_id" in request.query_params else None


def read_number(request: Request, name: str, default: int) -> int:
    """A query parameter as an integer; raises ``ProviderError`` 400 when it is none."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ProviderError(400, f"{name} must be an integer.") from error
