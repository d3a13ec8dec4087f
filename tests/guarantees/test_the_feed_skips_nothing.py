"""The feed skips nothing: transactions of writers are held open and committed in every order, along with registrations,
withdrawals and late batch ids, while readers page through.

In the end a reader must have seen the final state of every recipient, with versions and positions that only increase.
Its pages are small, so that it stops at every position at some time.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from service.feed.feed import read_feed
from service.formant.events import STATUSES, Event
from service.store.database import Connection, Database, connect
from tests.eventually import eventually
from tests.factories import decode, make_payload, phone_of, store_batch
from tests.uploads.listed import note_batch

UPLOADS, RECIPIENTS, STRANGERS = 4, 12, 15
ELSEWHERE, FIRST_ID = 900, 456
WRITERS = 3
LIMITS = (1, 2, 3, 7)

Action = Callable[[Connection], Awaitable[Any]]


class Reader:
    """Follows the feed from 0 in small pages, and checks its promises."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._after = 0
        self.seen: dict[tuple[str | None, int], dict[str, Any]] = {}

    async def read_on(self) -> None:
        """Reads everything that there is now."""
        has_more = True
        while has_more:
            page = await read_feed(self._database, self._after, self._limit)
            for entry in page.entries:
                assert entry["position"] > self._after
                self._after = entry["position"]
                before = self.seen.get(key := (entry["phone"], entry["recipient"]))
                assert before is None or entry["version"] > before["version"]
                self.seen[key] = dict(entry)
            assert page.next == self._after
            has_more = page.has_more

    async def follow(self, until: asyncio.Event) -> None:
        """Reads repeatedly, and once more after ``until``."""
        while not until.is_set():
            await self.read_on()
            await asyncio.sleep(0)
        await self.read_on()


class Writer:
    """A connection whose transactions stay open after their work until ``commit()``."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._may_commit = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def begin(self, action: Action) -> None:
        """Begins a transaction and its work, which may wait for a lock."""
        self._may_commit.clear()
        self._running = asyncio.create_task(self._write(action))

    def commit(self) -> None:
        """Lets the transaction commit as soon as its work is done."""
        self._may_commit.set()

    async def settle(self, observer: asyncpg.Connection, *, is_to_commit: bool) -> None:
        """Waits until it can proceed no further: it has ended, its transaction is open, or it waits for a lock."""
        running = self._running
        assert running is not None

        async def has_settled() -> bool:
            if running.done():
                return True
            state = await observer.fetchval(
                "SELECT CASE WHEN wait_event_type = 'Lock' THEN 'blocked' ELSE state END "
                "FROM pg_stat_activity WHERE pid = $1",
                self._connection.get_server_pid(),
            )
            return state == "blocked" or (state == "idle in transaction" and not is_to_commit and self.is_open)

        await eventually(has_settled)
        if running.done():
            await running

    async def end(self) -> None:
        """Waits until it has committed."""
        assert self._running is not None
        await self._running

    async def _write(self, action: Action) -> None:
        self.is_open = False
        async with self._connection.transaction():
            await action(self._connection)
            self.is_open = True
            await self._may_commit.wait()

    is_open = False


class History:
    """The actions of writers: calls by reference, a registration with its withdrawals, ids that arrive late.

    Concurrent groups call different people, so they can conflict only over positions.
    """

    def __init__(self, database: Database, dice: random.Random) -> None:
        self._database = database
        self._queries = database.queries
        self._dice = dice
        self._calls: Iterator[dict[str, Any]] = iter(())
        self._waiting: list[tuple[int, int]] = []
        self._elsewhere_key = 0

    async def prepare(self) -> None:
        """Stores uploads without an answer yet, and a batch made elsewhere whose file has few of the called people."""
        self._elsewhere_key = await note_batch(self._database, ELSEWHERE, STRANGERS)
        for number in range(UPLOADS):
            first_phone = 1000 * number + 1
            key = await store_batch(
                self._database.url, RECIPIENTS, batch_id=None, ref_token=f"upload{number}", first_phone=first_phone
            )
            self._waiting.append((key, FIRST_ID + number))
        await self._database.pool.execute(
            "UPDATE batches SET upload_state = 'uploading', leased_until = 'infinity' WHERE batch_id IS NULL"
        )
        self._calls = itertools.chain.from_iterable(self._make_calls(attempt) for attempt in (1, 2))
        strangers = [
            make_payload(recipient=None, phone=f"+91{8_000_000_000 + n}", parameters={"loan_id": "X"}, attempt=1)
            for n in range(STRANGERS)
        ]
        await self._ingest(self._database.pool, strangers)
        await self._database.pool.execute(
            """
            INSERT INTO staged_recipients (batch_key, row_no, phone, parameters)
            SELECT $1, n + 1, '+91' || 8000000000 + n, '{"loan_id": "X"}' FROM generate_series(0, 2) AS n
            """,
            self._elsewhere_key,
        )
        await self._database.pool.execute(
            "INSERT INTO registrations (batch_key, step, columns) VALUES ($1, 'match', '{}')",
            self._elsewhere_key,
        )

    def choose_actions(self) -> list[Action]:
        """The next actions of the writers."""
        return self._dice.sample([self.call, self.call, self.register, self.publish_id, self.publish_id], WRITERS)

    async def call(self, connection: Connection) -> None:
        """Ingests a group of three calls."""
        await self._ingest(connection, list(itertools.islice(self._calls, 3)))

    async def register(self, connection: Connection) -> None:
        """Takes the next step of the registration, of two rows."""
        await connection.fetchval("SELECT register_step($1, 2)", self._elsewhere_key)

    async def publish_id(self, connection: Connection) -> None:
        """Records the answer to an upload, or takes the next step of moving feed entries that lacked a batch id."""
        if self._waiting and self._dice.random() < 0.4:
            key, batch_id = self._waiting.pop(0)
            await self._queries.adopt_batch(
                connection, batch_key=key, batch_id=batch_id, status="", total_recipients=RECIPIENTS, created_at=None,
                rows=1, known_by="answer", sent_at=None, details="{}",
                actor="test", key_id=None, request_id=None, action="upload",
            )  # fmt: skip
        else:
            await self._queries.move_feed_entries(connection, rows=2)

    async def finish(self, connection: Connection) -> None:
        """Finishes registration, ids and moves. No calls are left that could hide a skipped change."""
        while self._waiting:
            await self.publish_id(connection)
        while await self._queries.move_feed_entries(connection, rows=2):
            pass
        while await connection.fetchval("SELECT register_step($1, 2)", self._elsewhere_key) in {"match", "withdraw"}:
            pass

    def _make_calls(self, attempt: int) -> list[dict[str, Any]]:
        """One call to everyone, in random order."""
        calls = [
            make_payload(
                recipient=recipient,
                attempt=attempt,
                status=self._dice.choice(STATUSES),
                final=attempt == 2,
                ref_token=f"upload{number}",
                phone=phone_of(1000 * number + recipient),
            )
            for number in range(UPLOADS)
            for recipient in range(1, RECIPIENTS + 1)
        ]
        self._dice.shuffle(calls)
        return calls

    async def _ingest(self, connection: Any, payloads: list[dict[str, Any]]) -> None:
        if payloads:
            columns = zip(Event._fields, zip(*decode(*payloads), strict=True), strict=True)
            await self._queries.ingest(connection, **dict(columns))


async def list_final_states(database: Database) -> dict[tuple[str | None, int], dict[str, Any]]:
    """The final state of every recipient in the tables."""
    rows = await database.pool.fetch(
        """
        SELECT o.position, b.batch_id, o.recipient_no AS recipient, r.phone, o.state, o.attempts, o.version
        FROM outcomes AS o
        JOIN recipients AS r USING (batch_key, recipient_no)
        JOIN batches AS b USING (batch_key)
        """
    )
    return {(row["phone"], row["recipient"]): dict(row) for row in rows}


@pytest.mark.parametrize("seed", range(4))
async def test_no_reader_skips_a_change_in_any_order_of_commits(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    history = History(database, dice)
    await history.prepare()
    connections = [await connect(database.url) for _ in range(WRITERS + 1)]
    observer, writers = connections[0], [Writer(connection) for connection in connections[1:]]
    steady = [Reader(database, limit) for limit in LIMITS]  # read whenever something may have become visible
    restless = [Reader(database, limit) for limit in LIMITS]  # read all the time
    ended = asyncio.Event()
    following = asyncio.gather(*(reader.follow(ended) for reader in restless))

    for order in [*itertools.permutations(range(WRITERS))] * 3:
        for writer, action in zip(writers, history.choose_actions(), strict=True):
            writer.begin(action)
            await writer.settle(observer, is_to_commit=False)
            await steady[0].read_on()
        for n in order:
            writers[n].commit()
            await writers[n].settle(observer, is_to_commit=True)
            for reader in steady:
                await reader.read_on()
        for writer in writers:
            await writer.end()
    await history.finish(observer)
    ended.set()
    await following

    final = await list_final_states(database)
    assert {row["batch_id"] for row in final.values()} == {ELSEWHERE, *range(FIRST_ID, FIRST_ID + UPLOADS)}
    assert sum(row["state"] == "withdrawn" for row in final.values()) == STRANGERS - 3
    for reader in [*steady, *restless, Reader(database, 5)]:
        await reader.read_on()
        seen = {key: {name: entry[name] for name in final[key]} for key, entry in reader.seen.items()}
        assert seen == final
    for connection in connections:
        await connection.close()


async def test_a_reader_of_a_call_without_a_batch_id_gets_the_id_however_close_the_two_are(database: Database) -> None:
    key = await store_batch(database.url, 2, batch_id=None)
    queries = database.queries
    await database.pool.execute("UPDATE batches SET upload_state = 'uploading'")
    observer = await connect(database.url)
    connections = [await connect(database.url) for _ in range(2)]
    calling, answering = (Writer(connection) for connection in connections)

    async def call(connection: Connection) -> None:
        events = decode(make_payload(recipient=1))
        await queries.ingest(connection, **dict(zip(Event._fields, zip(*events, strict=True), strict=True)))

    async def answer(connection: Connection) -> None:
        await queries.adopt_batch(
            connection, batch_key=key, batch_id=FIRST_ID, status="", total_recipients=2, created_at=None, rows=100,
            known_by="answer", sent_at=None, details="{}",
                actor="test", key_id=None, request_id=None, action="upload",
        )  # fmt: skip

    # The answer must not look for existing calls before the call commits and itself commit afterwards.
    reader = Reader(database, 10)
    calling.begin(call)
    await calling.settle(observer, is_to_commit=False)
    answering.begin(answer)
    await answering.settle(observer, is_to_commit=False)
    calling.commit()
    await calling.end()
    await reader.read_on()
    assert [entry["batch_id"] for entry in reader.seen.values()] == [None]
    answering.commit()
    await answering.end()
    await reader.read_on()
    assert [entry["batch_id"] for entry in reader.seen.values()] == [FIRST_ID]
    for connection in (*connections, observer):
        await connection.close()
