"""The counters always equal a recount of the attempts, and positions in the feed appear in order."""

import asyncio
import random
from typing import Any

import asyncpg

from service.formant.events import STATUSES, Event
from service.store.database import connect, load_queries
from tests.factories import AGENT_ID, decode, make_payload, store_batch
from tests.guarantees.oracle import expect
from tests.guarantees.recount import find_differences, read_state

RECIPIENTS = 40
REPLICAS = 4


def make_history(seed: int) -> list[Event]:
    """Three attempts for each recipient, most of them unanswered, with contradictions and duplicates, shuffled."""
    dice = random.Random(seed)
    payloads: list[dict[str, Any]] = []
    for recipient in range(1, RECIPIENTS + 1):
        for attempt in (1, 2, 3):
            payloads += [
                make_payload(
                    recipient=recipient,
                    attempt=attempt,
                    status=dice.choice(STATUSES),
                    final=attempt == 3,
                    results={"intent": dice.choice("abc"), "note": dice.choice("xy") * dice.choice((5, 100))},
                    duration_seconds=dice.randrange(10, 300),
                )
                for _ in range(2)
            ]
    events = decode(*payloads)
    deliveries = events + dice.sample(events, len(events) // 3)
    dice.shuffle(deliveries)
    return deliveries


async def test_counters_equal_a_recount_while_replicas_write_the_same_recipients(database_url: str) -> None:
    batch_key = await store_batch(database_url, RECIPIENTS)
    events = make_history(seed=1)
    replicas = [await connect(database_url) for _ in range(REPLICAS)]
    goal = {"agent_id": AGENT_ID, "campaign_id": None, "actor": "test", "key_id": None, "request_id": None}
    await load_queries().set_goal(replicas[0], rule='{"intent": ["a", "b"]}', **goal)
    recounter = await connect(database_url)

    async def write(replica: asyncpg.Connection, mine: list[Event]) -> None:
        while mine:
            group, mine = mine[:5], mine[5:]
            columns = dict(zip(Event._fields, zip(*group, strict=True), strict=True))
            await load_queries().ingest(replica, **columns)

    writers = asyncio.gather(*(write(replica, events[n::REPLICAS]) for n, replica in enumerate(replicas)))
    recounts = 0
    while not writers.done():
        assert await find_differences(recounter) == []
        recounts += 1
    await writers
    assert recounts > 3
    assert await recounter.fetchval("SELECT recipients FROM goal_counts") > 0
    assert await find_differences(recounter) == []
    assert (await read_state(recounter, batch_key)).outcomes == expect(events).outcomes
    for connection in (*replicas, recounter):
        await connection.close()


async def test_a_reader_that_has_seen_a_position_has_seen_every_change_up_to_it(database_url: str) -> None:
    await store_batch(database_url, RECIPIENTS)
    events = make_history(seed=2)
    replicas = [await connect(database_url) for _ in range(REPLICAS)]
    reader = await connect(database_url)

    async def write(replica: asyncpg.Connection, mine: list[Event]) -> None:
        for event in mine:
            columns = {name: [value] for name, value in zip(Event._fields, event, strict=True)}
            await load_queries().ingest(replica, **columns)

    writers = asyncio.gather(*(write(replica, events[n::REPLICAS]) for n, replica in enumerate(replicas)))
    versions: dict[int, int] = {}
    seen = 0
    is_over = False
    while not is_over:
        is_over = writers.done()
        rows = await reader.fetch("SELECT * FROM outcomes WHERE position > $1 ORDER BY position", seen)
        versions |= {row["recipient_no"]: row["version"] for row in rows}
        seen = rows[-1]["position"] if rows else seen
    await writers
    final = await reader.fetch("SELECT recipient_no, version FROM outcomes")
    assert versions == {row["recipient_no"]: row["version"] for row in final}
    for connection in (*replicas, reader):
        await connection.close()
