"""The acknowledged-event checker: compares the answers that clients got with what the database holds afterwards.

Each acknowledged event is stored once and counted once; a refused or unanswered one at most once; nothing else is
stored; the counters equal a recount; and a reader that followed the feed throughout has missed no change.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import asyncpg
import httpx

from service.store.database import connect
from tests.factories import encode, make_payload, post_webhook
from tests.guarantees.recount import find_differences

CLIENTS = 32
PAGE = 100
_TAIL = """
SELECT position, batch_key, recipient_no, version, state FROM outcomes WHERE position > $1 ORDER BY position LIMIT $2
"""
_KEPT = """
SELECT e.event_id, (SELECT count(*) FROM facts AS f WHERE f.arrival_id = e.arrival_id) AS facts,
       (SELECT count(*) FROM event_bodies AS b WHERE b.arrival_id = e.arrival_id) AS bodies
FROM events AS e
WHERE starts_with(e.event_id, $1)
"""
_UNAVAILABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


class Tally(NamedTuple):
    """Numbers of events under a fault: by the first answers of the service, and by faults found in the database."""

    acknowledged: int
    refused: int
    unknown: int
    lost: int
    counted_twice: int


class Checker:
    """Sends events from many clients at once and records the answers. Event n is about recipient n."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.unknown: set[int] = set()
        self.stored: set[int] = set()  # as of the last check
        self.tally: Tally | None = None  # once checked
        self.notes: list[str] = []
        self._bodies: dict[int, bytes] = {}
        self._news = asyncio.Condition()
        self._next = 0
        self._acknowledged_at: float | None = None
        self._longest_silence = 0.0

    @property
    def sent(self) -> int:
        """The number of the last event sent, answered or not."""
        return self._next

    async def load(self, services: Sequence[httpx.AsyncClient], count: int) -> None:
        """Sends ``count`` more events, each once, to the services in turn."""
        last = self._next + count
        await asyncio.gather(*(self._send_until(last, services) for _ in range(CLIENTS)))

    @asynccontextmanager
    async def loading(self, services: Sequence[httpx.AsyncClient]) -> AsyncIterator[None]:
        """Sends events, each once, to the services in turn during the block; waits for the last answers."""
        done = asyncio.Event()

        async def send() -> None:
            while not done.is_set():
                self._next += 1
                await self.send(services[self._next % len(services)], self._next)

        clients = [asyncio.create_task(send()) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            done.set()
            await asyncio.gather(*clients)

    @contextmanager
    def measuring(self, fault: str) -> Iterator[None]:
        """Notes the longest time without an acknowledgement during the block; it is printed after the table."""
        self._longest_silence = 0.0
        yield
        self.notes.append(f"{fault}: {self._longest_silence:.1f} s without an acknowledgement")

    async def _send_until(self, last: int, services: Sequence[httpx.AsyncClient]) -> None:
        while self._next < last:
            self._next += 1
            await self.send(services[self._next % len(services)], self._next)

    async def send(self, service: httpx.AsyncClient, number: int) -> httpx.Response | None:
        """Sends one event; returns None if no answer came."""
        answer: httpx.Response | None = None
        # The same body each time, as the provider sends it: a different one under the same id would be a conflict.
        body = self._bodies.setdefault(number, encode(make_payload(recipient=number, event_id=f"sent-{number}")))
        try:
            answer = await post_webhook(service, body)
        except asyncio.CancelledError:
            self.unknown.add(number)  # the client hung up
            raise
        except httpx.HTTPError:
            kind = self.unknown
        else:
            kind = self.acknowledged if answer.status_code == 204 else self.refused
        async with self._news:
            kind.add(number)
            if kind is self.acknowledged:
                self._note_acknowledgement(time.monotonic())
            self._news.notify_all()
        return answer

    def _note_acknowledgement(self, now: float) -> None:
        if self._acknowledged_at is not None:
            self._longest_silence = max(self._longest_silence, now - self._acknowledged_at)
        self._acknowledged_at = now

    async def wait_for(self, acknowledged: int = 0, failed: int = 0) -> None:
        """Waits until ``acknowledged`` more events were acknowledged and ``failed`` in all were not."""
        goal = len(self.acknowledged) + acknowledged
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(
                lambda: len(self.acknowledged) >= goal and len(self.refused) + len(self.unknown) >= failed
            )

    async def send_again(self, service: httpx.AsyncClient) -> None:
        """Resends unacknowledged events, as the provider does; all of them must be acknowledged now."""
        for number in sorted((self.refused | self.unknown) - self.acknowledged):
            answer = await self.send(service, number)
            assert answer is not None
            assert answer.status_code == 204, answer.text

    async def check(self, url: str) -> None:
        """Compares the database with the answers."""
        connection = await connect(url)
        async with connection.transaction(isolation="repeatable_read"):  # refused events may still arrive
            stored = [int(row["event_id"][5:]) for row in await connection.fetch("SELECT event_id FROM events")]
            bodies = await connection.fetchval("SELECT count(*) FROM event_bodies")
            facts = await connection.fetchval("SELECT count(*) FROM facts")
            outcomes = [row["recipient_no"] for row in await connection.fetch("SELECT recipient_no FROM outcomes")]
            differences = await find_differences(connection)
        await connection.close()
        self.stored = set(stored)
        self.tally = Tally(
            len(self.acknowledged),
            len(self.refused),
            len(self.unknown),
            lost=len(self.acknowledged - self.stored),
            counted_twice=max(len(stored), facts, len(outcomes)) - len(self.stored),
        )
        assert self.acknowledged <= self.stored
        assert self.stored <= self.acknowledged | self.unknown | self.refused
        assert len(stored) == len(self.stored) == bodies == facts
        assert sorted(outcomes) == sorted(stored)
        assert differences == []


async def find_lost(url: str, prefix: str, results: Sequence[int], unusable: int) -> list[str]:
    """Checks very many events whose ids are ``prefix`` and a number; returns a line for each that is lost or doubled.

    ``results[n]`` is 1 if event n was acknowledged, 0 if it was never sent. ``unusable`` is the number of acknowledged
    bodies that are not events. Memory holds only one number per event.
    """
    found, seen = [], bytearray(len(results))
    connection = await connect(url, statement_seconds=None)
    async with connection.transaction():
        async for row in connection.cursor(_KEPT, prefix, prefetch=5000):
            number = int(row["event_id"][len(prefix) :])
            if number >= len(results) or results[number] == 0:
                found.append(f"{row['event_id']} was never sent")
                continue
            seen[number] = 1
            if (row["facts"], row["bodies"]) != (1, 1):
                found.append(f"{row['event_id']} has {row['facts']} facts and {row['bodies']} bodies")
    found += [
        f"{prefix}{number} was acknowledged"
        for number in range(len(results))
        if results[number] == 1 and not seen[number]
    ]
    kept = await connection.fetchval("SELECT count(*) FROM quarantine")
    if kept < unusable:
        found.append(f"{unusable - kept} bodies in quarantine were acknowledged")
    if unordered := await connection.fetchval("SELECT count(*) - count(DISTINCT position) FROM outcomes"):
        found.append(f"{unordered} feed positions are there twice")
    await connection.close()
    return found


@asynccontextmanager
async def following_the_feed(url: str) -> AsyncIterator[None]:
    """Follows the feed during the block; at its end the reader must know the last change of each recipient."""
    seen: dict[tuple[int, int], tuple[int, str]] = {}
    done = asyncio.Event()
    task = asyncio.create_task(_follow(url, seen, done))
    try:
        yield
    finally:
        done.set()
        await task
    connection = await connect(url)
    rows = await connection.fetch("SELECT batch_key, recipient_no, version, state FROM outcomes")
    await connection.close()
    assert seen == {(row["batch_key"], row["recipient_no"]): (row["version"], row["state"]) for row in rows}


async def _follow(url: str, seen: dict[tuple[int, int], tuple[int, str]], done: asyncio.Event) -> None:
    """Reads page after page, even if the database goes away; ends with an empty page after ``done``."""
    position, connection = 0, None
    while True:
        is_last = done.is_set()
        try:
            if connection is None or connection.is_closed():
                connection = await connect(url)
            page = await connection.fetch(_TAIL, position, PAGE)
        except _UNAVAILABLE:
            assert not is_last, "the database is away at the end"
            connection = None
            await asyncio.sleep(0.05)
            continue
        for row in page:
            assert row["position"] > position
            position = row["position"]
            seen[row["batch_key"], row["recipient_no"]] = (row["version"], row["state"])
        if not page:
            if is_last:
                await connection.close()
                return
            await asyncio.sleep(0.005)
