"""What the server refuses by itself, in the one shape that errors have."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.server.keeper import ConnectionKeeper
from service.server.limits import PROBES
from service.web.problems import render_error
from service.web.safety import NO_SNIFFING

RETRY_AFTER_SECONDS = 5
NO_PLACE = "All places for connections are taken: try again"

Header = tuple[bytes, bytes]


class RefusedError(Exception):
    """The request is refused with this answer; ``reason`` is for the count."""

    def __init__(self, status: int, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


def render_refusal(status: int, message: str, more: Sequence[Header] = ()) -> bytes:
    """The whole answer, byte for byte, after which the connection closes."""
    headers, body = _describe(status, message)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in (*more, *headers, (b"connection", b"close")))
    return STATUS_LINE[status] + lines + b"\r\n" + body


def answer_probes_only(app: ASGIApp, keeper: ConnectionKeeper) -> ASGIApp:
    """The application for a place of the reserve."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES:
            await app(scope, receive, send)
            return
        keeper.count_cut("full")
        headers, body = _describe(503, NO_PLACE)
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _describe(status: int, message: str) -> tuple[list[Header], bytes]:
    body = render_error(message, "unavailable" if status == 503 else "invalid_request")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        NO_SNIFFING,
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return headers, body
