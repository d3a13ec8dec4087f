"""Answers: their shapes, their JSON, those that clients may keep but must revalidate (RFC 9110, section 13.1.2), and
clients that disconnect before their answer."""

import hashlib
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

Shape = TypeVar("Shape")
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset from UTC."""

CACHE_CONTROL = "private, no-cache"
_VERSION = version("formant-outcomes")
_encode = msgspec.json.Encoder(decimal_format="number").encode


class One(msgspec.Struct, Generic[Shape]):
    """A single object, in ``data``."""

    data: Shape


class Page(msgspec.Struct, Generic[Shape]):
    """A page of a list. Ask for the next page with ``after`` = ``next``; ``next`` is null on the last page."""

    data: list[Shape]
    next: int | None
    has_more: bool


def to_page(rows: list[Shape], limit: int, key: str) -> Page[Shape]:
    """A page of at most ``limit`` rows; one more row means that there is another page. ``key`` is the cursor's
    field."""
    has_more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, getattr(rows[-1], key) if has_more else None, has_more)


class JsonResponse(Response):
    """An answer with a JSON body: ``content`` may hold structs, dicts, lists, times (as ISO 8601 in UTC) and
    ``msgspec.Raw``."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON text from the database, passed through as it is."""
    return None if text is None else msgspec.Raw(text)


def make_etag(*parts: str) -> str:
    """The ETag of an answer that follows from ``parts`` and from this version of the service. It is weak, because
    ``as_of`` differs from answer to answer."""
    digest = hashlib.sha256("\0".join((_VERSION, *parts)).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def caching_headers(etag: str) -> dict[str, str]:
    """The headers of a 200 or 304 with this ETag."""
    return {"etag": etag, "cache-control": CACHE_CONTROL}


def asks_whether_changed(request: Request) -> bool:
    """Whether the client has an answer already, and wants another only if it differs."""
    return "if-none-match" in request.headers


def has_current(request: Request, etag: str) -> bool:
    """Whether one of the answers that the client has is the one with this ETag."""
    known = [tag.strip() for value in request.headers.getlist("if-none-match") for tag in value.split(",")]
    return "*" in known or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in known}


def answer_unchanged(etag: str) -> Response:
    """304: the client's answer is current."""
    return Response(status_code=304, headers=caching_headers(etag))


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns once the client has disconnected. The request's body must have been read, or be of no interest."""
    while (await receive())["type"] != "http.disconnect":
        pass
