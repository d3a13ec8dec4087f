"""The service's feed, read over HTTP as a named consumer."""

from typing import Any, Generic, TypeVar

import httpx
import msgspec

from service.crm.entries import Entry
from service.crm.exchange import Answer, SyncError, exchange, read_message, repeat

WHO = "The service (OUTCOMES_URL)"
READ_SECONDS = 30.0

_Shape = TypeVar("_Shape")


class Page(msgspec.Struct):
    """Entries in the order of their positions; whoever goes on after ``next`` has missed nothing."""

    data: list[Entry]
    next: int
    has_more: bool


class Place(msgspec.Struct):
    """How far a consumer is, and what it keeps with that."""

    position: int = 0
    tag: str | None = None


class AgentFields(msgspec.Struct):
    """What the recipients of an agent really have."""

    agent_id: int
    parameters: list[str]
    results: list[str]


class _Agents(msgspec.Struct):
    data: list[AgentFields]
    next: int | None


class _One(msgspec.Struct, Generic[_Shape]):
    data: _Shape


class FeedReader:
    """Calls the feed. ``is_patient``: an outage of the service is waited out, however long it is."""

    def __init__(self, http: httpx.AsyncClient, *, is_patient: bool) -> None:
        self._http = http
        self._is_patient = is_patient

    async def get_place(self, consumer: str) -> Place:
        """What the consumer has acknowledged: position 0 without a tag for one that never has."""
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

    async def read(self, after: int, limit: int, wait_seconds: int = 0) -> Page:
        """The entries after a position; waits so long for the first one where there is none yet."""
        params = {"after": after, "limit": limit} | ({"wait": wait_seconds} if wait_seconds else {})
        timeout = httpx.Timeout(READ_SECONDS, read=READ_SECONDS + wait_seconds)
        page = _decode(await self._call("GET", "/v1/feed", params=params, timeout=timeout), Page)
        if page.has_more and page.next <= after:
            raise SyncError(f"{WHO} tells of more entries after {after}, but not where")
        return page

    async def acknowledge(self, consumer: str, position: int, tag: str, *, is_reset: bool = False) -> None:
        """Says that everything up to the position has been dealt with; ``tag`` is kept with it."""
        place = {"position": position, "tag": tag} | ({"reset": True} if is_reset else {})
        answer = await self._call("PUT", f"/v1/feed/consumers/{consumer}", json=place, allowed=(409,))
        if answer.status == 409:
            raise SyncError(
                f"The feed refuses position {position} of the consumer {consumer}{read_message(answer.body)}. "
                "Does another job run under the same name? If not, --from-start begins again"
            )

    async def _call(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **request: Any) -> Answer:
        answer = await repeat(
            lambda: exchange(self._http, WHO, method, path, **request), "feed", is_patient=self._is_patient
        )
        if answer.status < 300 or answer.status in allowed:
            return answer
        message = read_message(answer.body)
        if answer.status in {401, 403}:
            raise SyncError(f"{WHO} refused OUTCOMES_FEED_KEY{message}. It takes a key with the scope feed")
        if answer.status == 409:
            raise SyncError(f"The feed cannot be read from there{message}. --from-start begins again")
        raise SyncError(f"{WHO} refused {method} {path} with {answer.status}{message}")


def open_feed(url: str, key: str) -> httpx.AsyncClient:
    """The connections to the service."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(READ_SECONDS, connect=5.0),
        follow_redirects=False,
    )


def _decode(answer: Answer, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SyncError(f"{WHO} answered what is no page of the feed: {error}. Is its address right?") from error
