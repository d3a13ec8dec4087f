"""Answers that a client may keep but must ask about before it uses them again (RFC 9110, section 13.1.2).

An ETag is made of what an answer follows from, and of this version of the service, since another may tell more.
"""

import hashlib
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

CACHE_CONTROL = "private, no-cache"
_VERSION = version("formant-outcomes")


def make_etag(*parts: str) -> str:
    """The ETag of an answer that follows from ``parts``. It is a weak one: ``as_of`` differs from answer to answer."""
    digest = hashlib.sha256("\0".join((_VERSION, *parts)).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def caching_headers(etag: str) -> dict[str, str]:
    """The headers of an answer with this ETag, be it a 200 or a 304."""
    return {"etag": etag, "cache-control": CACHE_CONTROL}


def asks_whether_changed(request: Request) -> bool:
    """Whether the client has an answer already, and asks for another only if it differs."""
    return "if-none-match" in request.headers


def has_current(request: Request, etag: str) -> bool:
    """Whether one of the answers that the client has is the one with this ETag."""
    known = [tag.strip() for value in request.headers.getlist("if-none-match") for tag in value.split(",")]
    return "*" in known or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in known}


def answer_unchanged(etag: str) -> Response:
    """304: what the client has still holds."""
    return Response(status_code=304, headers=caching_headers(etag))
