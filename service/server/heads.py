"""What a request's URL and headers may be."""

import urllib.parse

import httptools
from uvicorn._types import HTTPScope

from service.server.limits import ConnectionLimits
from service.server.refusals import Header, RefusedError


class _Trailers(list[Header]):
    """Headers that come after a body: nothing here needs any, and they must not pass for headers."""

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
    fault: RefusedError | None,
) -> None:
    """Raises RefusedError for a head that must not pass. ``hosts``: how often it names one; ``queued``: requests that
    wait for the answer before theirs; ``fault``: what was found while its headers came."""
    size = len(url) + sum(len(name) + len(value) for name, value in headers)
    if size > limits.head_bytes or len(headers) > limits.headers:
        raise too_large(limits, url)
    if fault is not None:
        raise fault
    if version not in {"1.0", "1.1"}:
        raise RefusedError(505, "This service speaks HTTP/1.1")
    if hosts > 1 or (version == "1.1" and not hosts):
        raise RefusedError(400, "Host: is to be sent, and once")
    if queued >= limits.pipelined:
        raise RefusedError(503, "Too many requests wait for the answer to the one before", "pipelined")


def too_large(limits: ConnectionLimits, url: bytes) -> RefusedError:
    """The refusal of a head that is over the limits."""
    if len(url) > limits.head_bytes // 2:
        return RefusedError(414, f"URL and headers take up to {limits.head_bytes} bytes", "large_head")
    return RefusedError(
        431, f"There may be up to {limits.headers} headers of {limits.head_bytes} bytes in all", "large_head"
    )


def expects_to_be_asked(value: bytes) -> bool:
    """Whether an Expect header asks for ``100 Continue``; others may be ignored (RFC 9110, section 10.1.1)."""
    return any(item.strip().lower() == b"100-continue" for item in value.split(b","))


def describe_request(scope: HTTPScope, parser: httptools.HttpRequestParser, url: bytes) -> None:
    """Adds method, version and target to an ASGI scope; raises RefusedError where there is no path."""
    if parser.get_method() == b"CONNECT":
        raise RefusedError(400, "This service is no proxy")
    parsed = httptools.parse_url(url)
    raw_path = parsed.path
    if raw_path is None:
        raise RefusedError(400, "The request names no path")
    path = raw_path.decode("ascii")
    scope["method"] = parser.get_method().decode("ascii")
    scope["http_version"] = parser.get_http_version()
    scope["path"] = urllib.parse.unquote(path) if "%" in path else path
    scope["raw_path"] = raw_path
    scope["query_string"] = parsed.query or b""
