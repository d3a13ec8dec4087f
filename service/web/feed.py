"""The feed over HTTP: pages of changes, with long polling, and the consumers that read it."""

import asyncio
from typing import Annotated, Any

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.outcomes.consumers import Consumers
from service.outcomes.feed import read_feed
from service.outcomes.feed_watch import FeedWatch
from service.store.database import Database
from service.web.bodies import read_json
from service.web.json import JsonResponse, raw
from service.web.operations import Operation
from service.web.parameters import read_number

MAX_POSITION = 2**63 - 1
MAX_WAIT_SECONDS = 30


class _Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    position: Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
    reset: bool = False


class Feed:
    """Handlers of ``/v1/feed``."""

    def __init__(self, database: Database, consumers: Consumers, watch: FeedWatch) -> None:
        self._database = database
        self._consumers = consumers
        self._watch = watch

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/feed", self.read, "feed"),
            Operation("GET", "/v1/feed/consumers", self.list_consumers, "feed"),
            Operation("GET", "/v1/feed/consumers/{name}", self.get_consumer, "feed"),
            Operation("PUT", "/v1/feed/consumers/{name}", self.acknowledge, "feed"),
            Operation("DELETE", "/v1/feed/consumers/{name}", self.forget_consumer, "feed"),
        ]

    async def read(self, request: Request) -> Response:
        """Changes after a position, or after what a consumer has acknowledged. A page may be shorter than ``limit``
        although more follows. With ``wait`` an empty page is answered only after so many seconds without a change."""
        limit = read_number(request, "limit", 100, minimum=1, maximum=1000)
        wait = read_number(request, "wait", 0, minimum=0, maximum=MAX_WAIT_SECONDS)
        after = await self._find_start(request)
        page = await read_feed(self._database, after, limit)
        if wait and not page.entries and await self._wait(request, after, wait):
            page = await read_feed(self._database, after, limit)
        entries = [_show_entry(entry) for entry in page.entries]
        return JsonResponse({"data": entries, "next": page.next, "has_more": page.has_more})

    async def list_consumers(self, request: Request) -> Response:
        """All consumers, by name: there are so few that they are one page."""
        return JsonResponse(
            {"data": [dict(row) for row in await self._consumers.list()], "next": None, "has_more": False}
        )

    async def get_consumer(self, request: Request) -> Response:
        """How far a consumer is, and how far behind."""
        return await self._answer(request.path_params["name"])

    async def acknowledge(self, request: Request) -> Response:
        """Takes down how far a consumer is: ``{"position": 123}``; ``"reset": true`` lets it go back."""
        word = await read_json(request, _Acknowledgement, '{"position": 123}')
        name = request.path_params["name"]
        await self._consumers.acknowledge(name, word.position, is_reset=word.reset)
        return await self._answer(name)

    async def forget_consumer(self, request: Request) -> Response:
        """204 once the consumer is forgotten."""
        await self._consumers.forget(request.path_params["name"])
        return Response(status_code=204)

    async def _answer(self, name: str) -> Response:
        return JsonResponse({"data": dict(await self._consumers.get(name))})

    async def _find_start(self, request: Request) -> int:
        consumer = request.query_params.get("consumer")
        if consumer is None:
            return read_number(request, "after", 0, minimum=0, maximum=MAX_POSITION)
        if "after" in request.query_params:
            raise InvalidRequestError("after: cannot be given beside consumer, which has a position of its own")
        return await self._consumers.get_position(consumer)

    async def _wait(self, request: Request, after: int, seconds: float) -> bool:
        """As ``FeedWatch.wait``; a client that hangs up waits no longer."""
        moved = asyncio.create_task(self._watch.wait(after, seconds))
        gone = asyncio.create_task(_see_hang_up(request))
        try:
            await asyncio.wait((moved, gone), return_when=asyncio.FIRST_COMPLETED)
            return moved.done() and moved.result()
        finally:
            moved.cancel()
            gone.cancel()
            await asyncio.gather(moved, gone, return_exceptions=True)


async def _see_hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _show_entry(entry: asyncpg.Record) -> dict[str, Any]:
    shown = dict(entry)
    del shown["has_more"]
    shown["parameters"] = raw(shown["parameters"])
    shown["results"] = raw(shown["results"])
    return shown
