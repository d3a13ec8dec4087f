"""The feed over HTTP: pages of changes, with long polling, and the consumers that read it."""

import asyncio
from typing import Annotated, Any

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.callbacks.shown import ShownCallback
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.feed.consumers import Consumers
from service.feed.feed import read_feed
from service.feed.watch import FeedWatch
from service.store.database import Database
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Free, Number, PathText, read_json
from service.web.responses import JsonResponse, One, Page, Time, raw, wait_for_disconnect

MAX_POSITION = 2**63 - 1
MAX_WAIT_SECONDS = 30
TAG = r"^[!-~]{1,200}$"

AFTER = Number("after", "Changes after this position", default=0, minimum=0, maximum=MAX_POSITION)
CONSUMER = Free("consumer", "Changes after what this consumer has acknowledged; not with `after`", "a name")
LIMIT = Number("limit", "Maximum number of changes", default=100, minimum=1, maximum=1000)
WAIT = Number("wait", "Seconds to wait for a change", default=0, minimum=0, maximum=MAX_WAIT_SECONDS)
NAME = PathText("name", "The consumer's name: 1 to 64 characters of A-Z a-z 0-9 . _ -")


class Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    """How far a consumer has come."""

    position: Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
    """The consumer has handled every entry up to here."""
    reset: bool = False
    """Allow the position to move back."""
    tag: Annotated[str, msgspec.Meta(pattern=TAG)] | None = None
    """Opaque text stored with the position, such as the digest of a configuration; null leaves it as it is."""


class FeedEntry(msgspec.Struct):
    """The latest state of a recipient, at the position of its last change."""

    position: int
    batch_id: int | None
    """Null until the provider's answer to the upload is known; then another entry has the id."""
    recipient: int
    phone: str | None
    parameters: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": dict[str, Any] | None})]
    state: str
    """The counted state; also ``withdrawn`` or ``erased``."""
    status: str | None
    """The status of the latest attempt."""
    is_final: bool
    attempts: int
    duration_seconds: int | None
    results: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": Any})]
    """What the agent made of the latest attempt: any JSON."""
    failure_reason: str | None
    next_retry_at: Time | None
    last_attempt_at: Time | None
    conversation_id: str | None
    source: str | None
    version: int
    goal_met: bool | None
    """The latest attempt meets the goal of the campaign or agent. Null without a goal, before the first attempt, and
    while the results of a completed call are not known."""
    callbacks: Annotated[msgspec.Raw | None, msgspec.Meta(extra={"shape": list[ShownCallback] | None})]
    """What the latest attempt asks for, by the setting of the agent, and whether it is done; null if nothing."""


class FeedPage(msgspec.Struct):
    """Changes in the order of their positions. Continue with ``after`` = ``next``, even without ``has_more``."""

    data: list[FeedEntry]
    next: int
    has_more: bool


class Consumer(msgspec.Struct):
    """The position that a consumer has acknowledged, and its lag."""

    name: str
    position: int
    last_position: int
    lag: int
    """Entries behind; if ``is_lag_exact`` is false, the distance between the positions."""
    is_lag_exact: bool
    behind_since: Time | None
    acknowledged_at: Time
    created_at: Time
    tag: str | None
    """The last tag that the consumer sent."""


class Feed:
    """Handlers of ``/v1/feed``."""

    def __init__(self, database: Database, consumers: Consumers, watch: FeedWatch) -> None:
        self._database = database
        self._consumers = consumers
        self._watch = watch

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/feed", self.read, "feed", "Feed",
                parameters=(AFTER, CONSUMER, LIMIT, WAIT), answers=(Answer(FeedPage),),
                errors=(NotFoundError, ConflictError),
            ),
            Operation(
                "GET", "/v1/feed/consumers", self.list_consumers, "feed", "Feed",
                parameters=(), answers=(Answer(Page[Consumer]),),
            ),
            Operation(
                "GET", "/v1/feed/consumers/{name}", self.get_consumer, "feed", "Feed",
                parameters=(NAME,), answers=(Answer(One[Consumer]),),
            ),
            Operation(
                "PUT", "/v1/feed/consumers/{name}", self.acknowledge, "feed", "Feed",
                parameters=(NAME,), bodies=(Json(Acknowledgement, 'Such as `{"position": 123}`'),),
                answers=(Answer(One[Consumer]),), errors=(ConflictError,),
            ),
            Operation(
                "DELETE", "/v1/feed/consumers/{name}", self.forget_consumer, "feed", "Feed",
                parameters=(NAME,), answers=(Answer(None, "The consumer is forgotten", 204),),
            ),
        ]  # fmt: skip

    async def read(self, request: Request) -> Response:
        """Changes after a position, or after what a consumer has acknowledged. A page may be shorter than ``limit``
        although more follows. With ``wait``, an empty page is returned only after that many seconds
        without a change."""
        limit, wait = LIMIT.read(request), WAIT.read(request)
        after = await self._find_start(request)
        page = await read_feed(self._database, after, limit)
        if wait and not page.entries and await self._wait(request, after, wait):
            page = await read_feed(self._database, after, limit)
        entries = [_show_entry(entry) for entry in page.entries]
        return JsonResponse(FeedPage(entries, page.next, page.has_more))

    async def list_consumers(self, request: Request) -> Response:
        """All consumers, by name, in one page."""
        consumers = [Consumer(**row) for row in await self._consumers.list()]
        return JsonResponse(Page(consumers, None, has_more=False))

    async def get_consumer(self, request: Request) -> Response:
        """The position of a consumer, and its lag."""
        return await self._answer(request.path_params["name"])

    async def acknowledge(self, request: Request) -> Response:
        """Records how far a consumer has come: ``{"position": 123}``; ``"reset": true`` allows it to move back."""
        given = await read_json(request, Acknowledgement, '{"position": 123}')
        name = request.path_params["name"]
        await self._consumers.acknowledge(name, given.position, is_reset=given.reset, tag=given.tag)
        return await self._answer(name)

    async def forget_consumer(self, request: Request) -> Response:
        """204 once the consumer is forgotten."""
        await self._consumers.forget(request.path_params["name"])
        return Response(status_code=204)

    async def _answer(self, name: str) -> Response:
        return JsonResponse(One(Consumer(**await self._consumers.get(name))))

    async def _find_start(self, request: Request) -> int:
        consumer = CONSUMER.read(request)
        if consumer is None:
            return AFTER.read(request)
        if "after" in request.query_params:
            raise InvalidRequestError("after: cannot be combined with consumer, which has a position of its own")
        return await self._consumers.get_position(consumer)

    async def _wait(self, request: Request, after: int, seconds: float) -> bool:
        """Like ``FeedWatch.wait``, but also ends when the client disconnects."""
        moved = asyncio.create_task(self._watch.wait(after, seconds))
        gone = asyncio.create_task(wait_for_disconnect(request.receive))
        try:
            await asyncio.wait((moved, gone), return_when=asyncio.FIRST_COMPLETED)
            return moved.done() and moved.result()
        finally:
            moved.cancel()
            gone.cancel()
            await asyncio.gather(moved, gone, return_exceptions=True)


def _show_entry(entry: asyncpg.Record) -> FeedEntry:
    shown = dict(entry)
    del shown["has_more"]
    shown["parameters"] = raw(shown["parameters"])
    shown["results"] = raw(shown["results"])
    shown["callbacks"] = raw(shown["callbacks"])
    return FeedEntry(**shown)
