"""The list of people who must not be called. It holds keyed hashes of phones, and never a phone."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import msgspec

from service.errors import InvalidRequestError
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id
from service.web.responses import Time

CHUNK_PHONES = 1000
"""People suppressed in one commit: a few hundredths of a second in which no sending begins."""
LEARNED = "outcome"
"""The source of people whom a rule of an agent suppressed."""
MAX_REASON_CHARACTERS = 200
_SOURCE = re.compile(r"[a-z0-9_-]{1,40}")


class Suppression(msgspec.Struct):
    """A person who must not be called, and why."""

    suppression_no: int
    """Its place in the list: ``next`` of a page is the last one's."""
    person: str
    """The same for the same person, as for erasures; reveals nothing else."""
    reason: str
    source: Annotated[str, msgspec.Meta(examples=["crm"])]
    """Who says so, in a word. ``outcome``: the result of a call, by a rule of its agent."""
    agent_id: int | None
    """The agent that made the call; only for ``outcome``."""
    called_at: Time | None
    """When that call was."""
    since: Time
    actor: str
    """The key that the person was suppressed with, ``command line``, or ``service``."""


class Added(NamedTuple):
    """How many people are new on the list, and how many rows of uploads that wait are left out because of them."""

    people: int
    waiting_rows: int


class SuppressionList:
    """Adds people to the list, removes and finds them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, phones: Sequence[str], reason: str, source: str, on_progress: Callable[[int], None] = lambda _: None
    ) -> Added:
        """Suppresses people, ``CHUNK_PHONES`` in a commit; those who are on the list already stay as they are.
        ``on_progress`` is called with how many are done. Raises InvalidRequestError for an unusable reason or source.
        """
        _check_words(reason, source)
        actor, people, rows = current_actor(), 0, 0
        for start in range(0, len(phones), CHUNK_PHONES):
            chunk = phones[start : start + CHUNK_PHONES]
            added = await self._database.queries.suppress_people(
                self._database.pool,
                phones=chunk,
                reasons=[reason] * len(chunk),
                source=source,
                actor=actor.name,
                key_id=actor.key_id,
                request_id=current_request_id(),
            )
            people += added["added"]
            rows += added["waiting"]
            on_progress(start + len(chunk))
        return Added(people, rows)

    async def remove(self, phone: str, reason: str) -> str | None:
        """Removes a person from the list; returns their ``person``, or None if they are not on it. Raises
        InvalidRequestError for an unusable reason."""
        _check_words(reason)
        actor = current_actor()
        person: str | None = await self._database.queries.lift_suppression(
            self._database.pool,
            phone=phone,
            reason=reason,
            actor=actor.name,
            key_id=actor.key_id,
            request_id=current_request_id(),
        )
        return person

    async def find(self, phone: str) -> Suppression | None:
        row = await self._database.queries.get_suppression(self._database.pool, phone=phone)
        return None if row is None else Suppression(**row)

    async def list(self, before: int, limit: int) -> list[Suppression]:
        """The people suppressed before number ``before``, the latest first."""
        rows = self._database.queries.list_suppressions(self._database.pool, before=before, limit=limit)
        return [Suppression(**row) async for row in rows]


def _check_words(reason: str, source: str = "api") -> None:
    if not 0 < len(reason) <= MAX_REASON_CHARACTERS or "\x00" in reason:
        raise InvalidRequestError(f"reason: takes 1 to {MAX_REASON_CHARACTERS} characters")
    if not _SOURCE.fullmatch(source) or source == LEARNED:
        raise InvalidRequestError(
            f"source: takes a word of 1 to 40 letters a to z, digits, - and _, such as crm; {LEARNED} is for the "
            "results of calls"
        )
