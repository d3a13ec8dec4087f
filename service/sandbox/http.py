"""What the provider's answers have in common: errors, the parameters of lists, and answers that come late or never."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from service.sandbox.faults import Faults

CLOSE_CONNECTION = "sandbox.close_connection"
"""The ASGI extension, provided by ``serving``, that closes the client's connection at once."""

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100
_TYPES = {
    400: "invalid_request",
    401: "authentication_error",
    404: "not_found",
    405: "invalid_request",  # the documentation names no type for it
    409: "duplicate_request",
    429: "rate_limit_exceeded",
    500: "internal_error",
}


class ProviderError(Exception):
    """A refusal: ``{"error": {"message", "type"}}``. The type follows from the status unless ``kind`` is given."""

    def __init__(
        self, status: int, message: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = kind or _TYPES.get(status, "invalid_request")
        self.headers = headers

    def to_response(self) -> Response:
        body = {"error": {"message": self.message, "type": self.type}}
        return JSONResponse(body, status_code=self.status, headers=self.headers)


class ProxyError(ProviderError):
    """A proxy in front of the provider answers with an HTML page."""

    def __init__(self, status: int) -> None:
        super().__init__(status, "A proxy answered.")

    def to_response(self) -> Response:
        return HTMLResponse(f"<h1>{self.status}</h1>", status_code=self.status)


def read_page(request: Request, faults: Faults) -> tuple[int, int]:
    """(limit, offset); raises ``ProviderError`` 400 when one is not a number or out of range."""
    limit = read_number(request, "limit", _DEFAULT_LIMIT)
    offset = read_number(request, "offset", 0)
    if not 1 <= limit <= _MAX_LIMIT:
        raise ProviderError(400, f"limit must be between 1 and {_MAX_LIMIT}.")
    if offset < 0:
        raise ProviderError(400, "offset must not be negative.")
    return limit, 0 if faults.ignore_offset else offset


def describe_end(faults: Faults, end: int, total: int) -> dict[str, Any]:
    """The fields of a list that say where it ends."""
    return {"has_more": faults.always_more or end < total, "total": total}


def read_agent(request: Request) -> int | None:
    """The agent to filter by, or None; raises ``ProviderError`` 400 when it is not a number."""
    return read_number(request, "agent_id", 0) if "agent_id" in request.query_params else None


def read_number(request: Request, name: str, default: int) -> int:
    """A query parameter as an integer; raises ``ProviderError`` 400 when it is not one."""
    try:
        return int(request.query_params.get(name, default))
    except ValueError as error:
        raise ProviderError(400, f"{name} must be an integer.") from error


class NoAnswer(Response):
    """Closes the connection without an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        close = scope.get("extensions", {}).get(CLOSE_CONNECTION)
        if close is None:
            raise ConnectionResetError("No answer (a fault of the sandbox), and this server cannot close connections.")
        close()
        await _wait_for_disconnect(receive)


class LateAnswer(Response):
    """Sends ``answer`` once the faults are released, or nothing if the client disconnects before."""

    def __init__(self, answer: Response, faults: Faults) -> None:
        super().__init__()
        self._answer = answer
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        release = asyncio.ensure_future(self._faults.wait_for_release())
        disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((release, disconnect), return_when=asyncio.FIRST_COMPLETED)
            if not disconnect.done():
                await self._answer(scope, receive, send)
        finally:
            release.cancel()
            disconnect.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
