"""Checks of request heads, and the answers with which the server itself refuses them, in the shape of all errors."""

import urllib.parse
from collections.abc import Sequence

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.server.limits import ConnectionKeeper, ConnectionLimits
from service.web.middleware import NO_SNIFFING, PROBES
from service.web.problems import render_error

RETRY_AFTER_SECONDS = 5
NO_SLOT = "All connection slots are in use: try again"

Header = tuple[bytes, bytes]


class RequestError(Exception):
    """The request is refused with this answer; ``reason`` labels the count."""

    def __init__(self, status: int, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


def render_refusal(status: int, message: str, more: Sequence[Header]) -> bytes:
    """The whole answer, byte for byte, after which the connection closes."""
    headers, body = _make_error(status, message)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in (*more, *headers, (b"connection", b"close")))
    return STATUS_LINE[status] + lines + b"\r\n" + body


def answer_probes_only(app: ASGIApp, keeper: ConnectionKeeper) -> ASGIApp:
    """The application for a connection with a reserved slot."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES:
            await app(scope, receive, send)
            return
        keeper.count_cut("full")
        headers, body = _make_error(503, NO_SLOT)
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _make_error(status: int, message: str) -> tuple[list[Header], bytes]:
    body = render_error(message, "unavailable" if status == 503 else "invalid_request")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        NO_SNIFFING,
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return headers, body


class _Trailers(list[Header]):
    """Drops headers after a body: they are not needed, and must not count as headers."""

    def append(self, header: Header) -> None:
        pass


TRAILERS = _Trailers()


def judge_head(
    limits: ConnectionLimits,
    url: bytes,
    headers: list[Header],
    version: str,
    *,
    hosts: int,
    queued: int,
    fault: RequestError | None,
) -> None:
    """Raises RequestError for a bad head. ``hosts``: number of Host headers; ``queued``: requests that wait for the
    answer before theirs; ``fault``: an error found while the headers were parsed."""
    size = len(url) + sum(len(name) + len(value) for name, value in headers)
    if size > limits.head_bytes or len(headers) > limits.headers:
        raise too_large(limits, url)
    if fault is not None:
        raise fault
    if version not in {"1.0", "1.1"}:
        raise RequestError(505, "This service speaks HTTP/1.1")
    if hosts > 1 or (version == "1.1" and not hosts):
        raise RequestError(400, "Host: send exactly one Host header")
    if queued >= limits.pipelined:
        raise RequestError(503, "Too many requests wait for the answer to the one before", "pipelined")


def too_large(limits: ConnectionLimits, url: bytes) -> RequestError:
    """The refusal of a head that is over the limits."""
    if len(url) > limits.head_bytes // 2:
        return RequestError(414, f"URL and headers take up to {limits.head_bytes} bytes", "large_head")
    return RequestError(
        431, f"There may be up to {limits.headers} headers of {limits.head_bytes} bytes in total", "large_head"
    )


def expects_continue(value: bytes) -> bool:
    """Whether an Expect header asks for ``100 Continue``; others may be ignored (RFC 9110, section 10.1.1)."""
    return any(item.strip().lower() == b"100-continue" for item in value.split(b","))


def describe_request(scope: HTTPScope, parser: httptools.HttpRequestParser, url: bytes) -> None:
    """Adds method, version and target to an ASGI scope; raises RequestError where there is no path."""
    if parser.get_method() == b"CONNECT":
        raise RequestError(400, "This service is not a proxy")
    parsed = httptools.parse_url(url)
    raw_path = parsed.path
    if raw_path is None:
        raise RequestError(400, "The request names no path")
    path = raw_path.decode("ascii")
    scope["method"] = parser.get_method().decode("ascii")
    scope["http_version"] = parser.get_http_version()
    scope["path"] = urllib.parse.unquote(path) if "%" in path else path
    scope["raw_path"] = raw_path
    scope["query_string"] = parsed.query or b""


def open_parser(connection: object) -> httptools.HttpRequestParser:
    """A parser set up like the connection's first one."""
    parser = httptools.HttpRequestParser(connection)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def render_without_upgrade(parser: httptools.HttpRequestParser, url: bytes, headers: list[Header]) -> bytes:
    """The parsed head without its Upgrade, since an offer of another protocol may be ignored (RFC 9110, section 7.8).

    The connection stays open only after ``h2c``, which clients offer by default. After any other offer a proxy in front
    may take the connection for a tunnel, through which requests would bypass it.
    """
    protocols = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    if protocols == [b"h2c"]:
        kept = [header for header in headers if header[0] != b"upgrade"]
    else:
        kept = [header for header in headers if header[0] not in {b"upgrade", b"connection"}]
        kept.append((b"connection", b"close"))
    line = b"%s %s HTTP/%s\r\n" % (parser.get_method(), url, parser.get_http_version().encode())
    return line + b"".join(b"%s: %s\r\n" % header for header in kept) + b"\r\n"
