"""Draining the stream into Postgres."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import nats
import pytest

from service.formant.events import Event, EventDecoder, Unreadable
from service.formant.targets import Target
from service.outcomes.spilled import find_spilled
from service.privacy.erasure import Eraser
from service.spill.codec import split_group
from service.spill.drain import Drainer
from service.spill.stream import Stream
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.eventually import eventually
from tests.factories import decode, make_payload, phone_of, store_batch
from tests.guarantees.recount import find_differences
from tests.guarantees.whole_database import find_everywhere
from tests.locks import WAITING, hold_ingest_lock
from tests.nats import run_nats

SAID = "i-lost-my-job"


@asynccontextmanager
async def open_drainer(
    database: Database, url: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[tuple[Stream, Drainer]]:
    """A stream, and a replica that drains it when it is asked to."""
    stream = Stream(url.split(","), max_body_bytes=2**20)
    await stream.open()
    metrics = Metrics()
    writer = Writer(database.url, database.queries, metrics)
    targets = {"default": Target("default", None)}
    yield stream, Drainer(database, stream, targets, EventDecoder("outcome_ref"), writer, metrics, lambda: False, sleep)
    writer.close()
    await stream.close()


async def put(stream: Stream, items: list[Event | Unreadable]) -> None:
    """Stores the items in the stream."""
    for part in split_group(items, 2**20):
        await stream.publish(part)


async def test_a_person_erased_while_their_events_wait_is_not_stored_again(database: Database) -> None:
    await store_batch(database.url, 3)
    calls = [
        make_payload(recipient=1, results={"said": SAID}),
        make_payload(recipient=None, phone=phone_of(1), results={"said": SAID}),
        make_payload(recipient=2),
    ]
    async with run_nats() as cluster, open_drainer(database, cluster.url) as (stream, drainer):
        await put(stream, [*decode(*calls)])
        eraser = Eraser(database)
        await eraser.finish(await eraser.begin(phone_of(1)))
        await drainer.drain()
        assert (await stream.read_state()).messages == 0
    assert await find_everywhere(database, SAID, phone_of(1)[3:]) == []
    assert await database.pool.fetchval("SELECT count(*) FROM outcomes") == 2
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_what_is_left_is_recorded_and_a_second_replica_leaves_it_alone(database: Database) -> None:
    await store_batch(database.url, 3)
    async with (
        run_nats() as cluster,
        open_drainer(database, cluster.url) as (stream, first),
        open_drainer(database, cluster.url) as (_, second),
    ):
        await first.drain()
        assert await database.pool.fetchval("SELECT waiting_events FROM spill_states") == 0
        await put(stream, [*decode(make_payload(recipient=1), make_payload(recipient=2))])
        await second.drain()
        assert (await stream.read_state()).events == 2
        await first.drain()
        assert (await stream.read_state()).events == 0
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 2


async def test_a_stream_on_other_servers_settles_nothing_that_was_put_into_the_old_one(database: Database) -> None:
    async with run_nats() as old, run_nats() as new:
        async with open_drainer(database, old.url) as (stream, drainer):
            await drainer.drain()
            await put(stream, [*decode(make_payload(recipient=1))])
        assert await find_spilled(database) is None
        await database.pool.execute("DELETE FROM leases")
        async with open_drainer(database, new.url) as (_, drainer):
            await drainer.drain()
    spilled = await find_spilled(database)
    assert spilled is not None
    assert spilled.cause == "replaced"


async def test_an_event_that_postgres_refuses_goes_to_quarantine_and_the_others_are_stored(database: Database) -> None:
    await store_batch(database.url, 3)
    decoder = EventDecoder("outcome_ref")
    good, bad = decode(make_payload(recipient=1))[0], decode(make_payload(recipient=2))[0]
    bad = bad._replace(body=bad.body.replace(b"promise_to_pay", b"x").replace(b'"x"', b"0." + b"1" * 17_000))
    item = decoder.decode_event(bad.body, "default", bad.received_at, None)
    async with run_nats() as cluster, open_drainer(database, cluster.url) as (stream, drainer):
        await put(stream, [good, item])
        await drainer.drain()
        assert (await stream.read_state()).messages == 0
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 1
    assert await database.pool.fetchval("SELECT reason FROM quarantine") == "refused_by_database"


async def test_draining_pauses_while_another_session_ingests(database: Database) -> None:
    await store_batch(database.url, 3)
    pauses: list[float] = []

    async def note_pause(seconds: float) -> None:
        pauses.append(seconds)

    first, second = await asyncpg.connect(database.url), await asyncpg.connect(database.url)
    async with run_nats() as cluster, open_drainer(database, cluster.url, note_pause) as (stream, drainer):
        await put(stream, [*decode(make_payload(recipient=1))])
        await drainer.drain()
        assert pauses == []
        await put(stream, [*decode(make_payload(recipient=2))])
        async with second.transaction():
            async with hold_ingest_lock(first):
                draining = asyncio.create_task(drainer.drain())
                await eventually(lambda: database.pool.fetchval(WAITING), lambda waiting: waiting == 1)
                locking = asyncio.create_task(second.execute("SELECT lock_ingest()"))  # as the next webhooks do
                await eventually(lambda: database.pool.fetchval(WAITING), lambda waiting: waiting == 2)
            await asyncio.gather(draining, locking)
        assert len(pauses) == 1
        assert pauses[0] > 0
    await first.close()
    await second.close()


async def publish(url: str, subject: str, payload: bytes) -> None:
    """Stores a message that the service did not write."""
    client = await nats.connect(url)
    await client.jetstream().publish(subject, payload)
    await client.close()


async def test_messages_that_cannot_be_read_go_to_quarantine_and_block_nothing(database: Database) -> None:
    await store_batch(database.url, 3)
    strange = {"outcomes.spill.hello": b"no message", "outcomes.spill.1": b"\xff\x00", f"outcomes.spill.{10**20}": b""}
    async with run_nats() as cluster, open_drainer(database, cluster.url) as (stream, drainer):
        for subject, payload in strange.items():
            await publish(cluster.url, subject, payload)
        await put(stream, [*decode(make_payload(recipient=1))])
        assert (await stream.read_state()).events == 4
        await drainer.drain()
        assert (await stream.read_state()).messages == 0
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 1
    rows = await database.pool.fetch("SELECT body, reason FROM quarantine")
    assert {(row["body"], row["reason"]) for row in rows} == {
        (payload, "unreadable_message") for payload in strange.values()
    }


async def test_a_message_of_a_newer_version_stays_and_the_others_are_stored(database: Database) -> None:
    await store_batch(database.url, 3)
    newer = msgspec.msgpack.encode([2, {"rows": "in another shape"}])
    async with run_nats() as cluster, open_drainer(database, cluster.url) as (stream, drainer):
        await publish(cluster.url, "outcomes.spill.1", newer)
        await put(stream, [*decode(make_payload(recipient=1))])
        await drainer.drain()
        assert (await stream.read_state()).messages == 1
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 1
    assert await database.pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def test_what_is_committed_together_is_bounded_by_its_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url, 3)
    monkeypatch.setattr("service.spill.drain.GROUP_BYTES", 10_000)
    sizes: list[int] = []
    write = Writer.write

    async def note_size(self: Writer, items: Sequence[Event | Unreadable]) -> None:
        sizes.append(len(items))
        await write(self, items)

    monkeypatch.setattr(Writer, "write", note_size)
    async with run_nats() as cluster, open_drainer(database, cluster.url) as (stream, drainer):
        for recipient in 1, 2, 3:
            await put(stream, [*decode(make_payload(recipient=recipient, results={"said": "x" * 4_000}))])
        await drainer.drain()
    assert sizes == [2, 1]
