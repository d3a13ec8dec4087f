"""The service's feed, read over HTTP as a named consumer."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from service.crm.entries import Entry
from service.crm.exchange import CrmAnswer, SyncError, exchange, read_message, repeat

WHO = "The service (OUTCOMES_URL)"
READ_SECONDS = 30.0

_Shape = TypeVar("_Shape")


class EntryPage(msgspec.Struct):
    """Entries in the order of their positions; reading on after ``next`` misses nothing."""

    data: list[Entry]
    next: int
    has_more: bool


class Place(msgspec.Struct):
    """A consumer's acknowledged position, the tag stored with it, and since when it is paused."""

    position: int = 0
    tag: str | None = None
    paused_at: str | None = None


class AgentFields(msgspec.Struct):
    """The names that an agent's recipients have in their parameters and results."""

    agent_id: int
    parameters: list[str]
    results: list[str]


class _Agents(msgspec.Struct):
    data: list[AgentFields]
    next: int | None


class _One(msgspec.Struct, Generic[_Shape]):
    data: _Shape


@dataclass(frozen=True)
class FeedReader:
    """Calls the feed. ``is_patient``: outages of the service are waited out."""

    http: httpx.AsyncClient
    is_patient: bool

    async def get_place(self, consumer: str) -> Place:
        """What the consumer has acknowledged; position 0 without a tag for a new consumer."""
        answer = await self._call("GET", f"/v1/feed/consumers/{consumer}", allowed=(404,))
        return Place() if answer.status == 404 else _decode(answer, _One[Place]).data

    async def list_fields(self) -> list[AgentFields]:
        """The fields of all agents that have a batch."""
        agents: list[AgentFields] = []
        after: int | None = None
        while True:
            params = {} if after is None else {"after": after}
            answer = await self._call("GET", "/v1/fields", params=params, allowed=(404,))
            if answer.status == 404:
                raise SyncError(f"{WHO} has no GET /v1/fields: it is older than this crm-sync. Upgrade it first")
            page = _decode(answer, _Agents)
            agents += page.data
            if page.next is None or not page.data:
                return agents
            after = page.next

    async def read(self, after: int, limit: int, wait_seconds: int = 0) -> EntryPage:
        """The entries after a position; waits up to ``wait_seconds`` for the first one."""
        params = {"after": after, "limit": limit} | ({"wait": wait_seconds} if wait_seconds else {})
        timeout = httpx.Timeout(READ_SECONDS, read=READ_SECONDS + wait_seconds)
        page = _decode(await self._call("GET", "/v1/feed", params=params, timeout=timeout), EntryPage)
        if page.has_more and page.next <= after:
            raise SyncError(f"{WHO} reports more entries after {after}, but no position to continue from")
        return page

    async def acknowledge(self, consumer: str, position: int, tag: str, *, is_reset: bool = False) -> Place:
        """Acknowledges everything up to the position; ``tag`` is stored with it. Returns what is stored now."""
        place = {"position": position, "tag": tag} | ({"reset": True} if is_reset else {})
        answer = await self._call("PUT", f"/v1/feed/consumers/{consumer}", json=place, allowed=(409,))
        if answer.status == 409:
            raise SyncError(
                f"The feed refuses position {position} of the consumer {consumer}{read_message(answer.body)}. "
                "Does another job use the same consumer? If not, --from-start sends everything again"
            )
        return _decode(answer, _One[Place]).data

    async def _call(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **request: Any) -> CrmAnswer:
        answer = await repeat(
            lambda: exchange(self.http, WHO, method, path, **request), "feed", is_patient=self.is_patient
        )
        if answer.status < 300 or answer.status in allowed:
            return answer
        message = read_message(answer.body)
        if answer.status in {401, 403}:
            raise SyncError(f"{WHO} refused OUTCOMES_FEED_KEY{message}. Set a key with the scope feed")
        if answer.status == 409:
            raise SyncError(f"The feed cannot be read from there{message}. --from-start sends everything again")
        raise SyncError(f"{WHO} refused {method} {path} with {answer.status}{message}")


def refuse_pause(place: Place, consumer: str) -> None:
    """Raises SyncError for a paused consumer."""
    if place.paused_at is not None:
        raise SyncError(
            f"The consumer {consumer} is paused since {place.paused_at}. Everything acknowledged is in the CRM; resume "
            "the consumer on the console's page Connections, and run this again to continue from there"
        )


def open_feed(url: str, key: str) -> httpx.AsyncClient:
    """The HTTP client for the service."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(READ_SECONDS, connect=5.0),
        follow_redirects=False,
    )


def _decode(answer: CrmAnswer, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SyncError(f"{WHO} did not answer with a page of the feed: {error}. Check the address") from error
