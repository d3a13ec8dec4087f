"""Ingest, the feed: every visible change takes the next position, and a change that changes nothing takes none."""

from datetime import timedelta
from typing import Any

from service.store.database import Database
from tests.factories import BEGAN, decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest, list_outcomes


async def positions(database: Database) -> dict[int, tuple[int, int]]:
    """Position and version by recipient."""
    return {row["recipient_no"]: (row["position"], row["version"]) for row in await list_outcomes(database)}


def later(payload: dict[str, Any], **call: Any) -> dict[str, Any]:
    """The same attempt as the provider reports it a day later."""
    again = make_payload(conversation_id=payload["data"]["call"]["conversation_id"])
    changed = {**payload, "event_id": again["event_id"], "timestamp": (BEGAN + timedelta(days=1)).isoformat()}
    changed["data"] = {**payload["data"], "call": {**payload["data"]["call"], **call}}
    return changed


async def test_positions_grow_from_one_commit_to_the_next(database: Database) -> None:
    await store_batch(database.url)
    seen = [0]
    for recipient in (3, 1, 2):
        await ingest(database, *decode(make_payload(recipient=recipient)))
        position, version = (await positions(database))[recipient]
        assert (position > max(seen), version) == (True, 1)
        seen.append(position)


async def test_each_recipient_of_a_group_gets_a_position_of_its_own(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(*[make_payload(recipient=recipient) for recipient in range(1, 6)]))
    taken = [position for position, _ in (await positions(database)).values()]
    assert len(set(taken)) == 5
    assert min(taken) > 0


async def test_a_new_attempt_moves_its_recipient_to_the_end_and_leaves_the_others(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1, status="busy", final=False), make_payload(recipient=2)))
    before = await positions(database)
    await ingest(database, *decode(make_payload(recipient=1, attempt=2)))
    after = await positions(database)
    assert after[2] == before[2]
    assert after[1][0] > max(position for position, _ in before.values())
    assert after[1][1] == 2


async def test_a_duplicate_takes_no_position(database: Database) -> None:
    await store_batch(database.url)
    events = decode(make_payload())
    await ingest(database, *events)
    before = await positions(database)
    await ingest(database, *events)
    assert await positions(database) == before


async def test_an_event_that_repeats_another_takes_no_position(database: Database) -> None:
    await store_batch(database.url)
    payload = make_payload()
    await ingest(database, *decode(payload))
    before = await positions(database)
    await ingest(database, *decode(later(payload, trace_id="another", ended_at=None)))
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == 2
    assert await positions(database) == before


async def test_an_event_that_loses_takes_no_position(database: Database) -> None:
    await store_batch(database.url)
    payload = make_payload()
    await ingest(database, *decode(later(payload)))
    before = await positions(database)
    await ingest(database, *decode({**payload, "event_id": "earlier"}))
    assert await positions(database) == before


async def test_every_change_that_a_reader_sees_takes_a_position(database: Database) -> None:
    await store_batch(database.url)
    payload = make_payload(status="busy", final=False)
    await ingest(database, *decode(payload))
    call, data = payload["data"]["call"], payload["data"]
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (call, {"duration_seconds": 5}),
        (call, {"failure_reason": "line busy"}),
        (call, {"started_at": (BEGAN + timedelta(minutes=61)).isoformat()}),
        (data, {"results": {"intent": "refused"}}),
        (data["retry"], {"next_retry_at": (BEGAN + timedelta(days=2)).isoformat()}),
        (payload, {"event_type": "call.no_answer"}),
        (data["retry"], {"is_final_attempt": True}),
        (payload, {"event_type": "call.failed"}),
    ]
    for version, (place, change) in enumerate(changes, start=2):
        before = await positions(database)
        place.update(change)
        payload |= {"event_id": f"change-{version}", "timestamp": (BEGAN + timedelta(days=version)).isoformat()}
        await ingest(database, *decode(payload))
        after = await positions(database)
        assert (after[1][0] > before[1][0], after[1][1]) == (True, version), change


async def test_an_earlier_attempt_that_arrives_late_changes_the_number_of_attempts_and_so_takes_a_position(
    database: Database,
) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(attempt=2)))
    before = await positions(database)
    await ingest(database, *decode(make_payload(attempt=1, status="busy", final=False)))
    after = await positions(database)
    assert (after[1][0] > before[1][0], after[1][1]) == (True, 2)


async def test_a_group_that_is_rolled_back_shows_no_position(database: Database) -> None:
    await store_batch(database.url)
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        events = decode(make_payload())
        columns = dict(zip(events[0]._fields, zip(*events, strict=True), strict=True))
        await database.queries.ingest(connection, **columns)
        await transaction.rollback()
    assert await positions(database) == {}
