"""Ingest, the ledger: new and repeated events, and every body kept as it came."""

import itertools

import asyncpg
import pytest

from service.store.database import Database
from tests.factories import decode, encode, make_payload, store_batch
from tests.webhooks.ingesting import Counted, get_event, ingest, list_outcomes, read_state


def conflicting(first: dict[str, object], status: str) -> dict[str, object]:
    """Another body under the same event id."""
    return make_payload(event_id=str(first["event_id"]), status=status, conversation_id="c-1")


async def test_new_events_are_applied_and_counted(database: Database) -> None:
    await store_batch(database.url)
    assert await ingest(database, *decode(*[make_payload(recipient=n) for n in (1, 2, 3)])) == Counted(applied=3)
    assert [(row["recipient_no"], row["state"], row["attempts"]) for row in await list_outcomes(database)] == [
        (1, "completed", 1),
        (2, "completed", 1),
        (3, "completed", 1),
    ]


async def test_a_repeated_event_changes_nothing_alone_or_among_new_ones(database: Database) -> None:
    await store_batch(database.url)
    (known,) = decode(make_payload(recipient=1))
    await ingest(database, known)
    before = await read_state(database)
    assert await ingest(database, known) == Counted(duplicates=1)
    assert await read_state(database) == before
    (new,) = decode(make_payload(recipient=2))
    assert await ingest(database, known, new, known) == Counted(applied=1, duplicates=2)
    assert len(await list_outcomes(database)) == 2


async def test_an_event_that_is_twice_in_a_group_counts_once(database: Database) -> None:
    await store_batch(database.url)
    (event,) = decode(make_payload(recipient=1))
    assert await ingest(database, event, event, event) == Counted(applied=1, duplicates=2)
    assert [row["attempts"] for row in await list_outcomes(database)] == [1]


async def test_an_event_that_fits_no_batch_is_unattributed_and_counted_so_only_once(database: Database) -> None:
    (event,) = decode(make_payload(recipient=None, phone="+919999999999"))
    assert await ingest(database, event) == Counted(unattributed=1)
    assert await ingest(database, event) == Counted(duplicates=1)
    assert (await get_event(database, event.event_id))["disposition"] == "unattributed"


async def test_every_kind_of_event_in_one_group_is_distinguished(database: Database) -> None:
    await store_batch(database.url)
    known, new, stray = decode(
        make_payload(recipient=1), make_payload(recipient=2), make_payload(recipient=None, phone="+919999999999")
    )
    (conflict,) = decode(make_payload(recipient=1, event_id=known.event_id, status="busy"))
    await ingest(database, known)
    assert await ingest(database, new, known, conflict, stray) == Counted(2, 1, 1, 1)


async def test_another_body_under_a_known_event_id_is_a_conflict_and_is_kept_too(database: Database) -> None:
    await store_batch(database.url)
    first = make_payload(status="completed", conversation_id="c-1")
    (known,), (other,) = decode(first), decode(conflicting(first, "busy"))
    await ingest(database, known)
    assert await ingest(database, other) == Counted(applied=1, conflicts=1)
    assert await ingest(database, other, known) == Counted(duplicates=2)
    assert (await get_event(database, known.event_id))["conflicts"] == 1
    bodies = {row["body"] for row in await database.pool.fetch("SELECT body FROM event_bodies")}
    assert bodies == {known.body, other.body}


async def test_conflicting_bodies_give_the_same_state_in_every_order_and_grouping(database: Database) -> None:
    first = make_payload(status="completed", conversation_id="c-1")
    events = decode(first, conflicting(first, "busy"), conflicting(first, "failed"))
    states = []
    for number, order in enumerate(itertools.permutations(events), start=1):
        for is_one_group in (True, False):
            token = f"token{number}{is_one_group}"
            await store_batch(database.url, batch_id=None, ref_token=token)
            copies = [event._replace(event_id=token, ref_token=token) for event in order]
            for group in [copies] if is_one_group else [[event] for event in copies]:
                await ingest(database, *group)
            (row,) = await database.pool.fetch(
                """
                SELECT o.state, o.attempts, f.status, f.results, o.version > 0,
                       (SELECT count(*) FROM facts AS a WHERE a.batch_key = b.batch_key)
                FROM batches AS b JOIN outcomes AS o USING (batch_key) JOIN facts AS f USING (batch_key, arrival_id)
                WHERE b.ref_token = $1
                """,
                token,
            )
            states.append(tuple(row))
    assert len(states) == 12
    assert len(set(states)) == 1
    assert states[0][-1] == 3


async def test_a_raw_body_is_kept_byte_for_byte(database: Database) -> None:
    await store_batch(database.url)
    odd = b"\xef\xbb\xbf" + encode(make_payload(recipient=1))[:-1] + b', "more": "\\u0000 \xff \\ud800"}\r\n \t'
    (event,) = decode(make_payload(recipient=1))
    large = event._replace(event_id="large", digest=b"l", body=bytes(range(256)) * 4096)
    await ingest(database, event._replace(body=odd), large)
    rows = await database.pool.fetch(
        "SELECT e.event_id, b.body FROM events AS e JOIN event_bodies AS b USING (arrival_id)"
    )
    assert {row["event_id"]: row["body"] for row in rows} == {event.event_id: odd, "large": large.body}


async def test_a_body_is_stored_once_however_often_it_comes(database: Database) -> None:
    events = decode(*[make_payload() for _ in range(3)])
    await ingest(database, *events)
    await ingest(database, *events, *events)
    assert await database.pool.fetchval("SELECT count(*) FROM event_bodies") == 3


async def test_the_ledger_keeps_the_events_own_words(database: Database) -> None:
    (event,) = decode(make_payload(status="busy"))
    await ingest(database, event._replace(target="india"))
    (row,) = await database.pool.fetch("SELECT event_type, target, digest, received_at FROM events")
    assert tuple(row) == ("call.busy", "india", event.digest, event.received_at)


async def test_the_last_event_of_a_batch_is_the_latest_received_whatever_the_order(database: Database) -> None:
    await store_batch(database.url)
    early, late = decode(make_payload(recipient=1), make_payload(recipient=2))
    late = late._replace(received_at=late.received_at.replace(hour=23))

    async def last_event_at() -> object:
        return await database.pool.fetchval("SELECT last_event_at FROM batch_activity")

    await ingest(database, late)
    await ingest(database, early)
    assert await last_event_at() == late.received_at


async def test_a_group_that_the_database_refuses_leaves_nothing_of_any_of_its_events(database: Database) -> None:
    await store_batch(database.url)
    good, bad = decode(make_payload(recipient=1), make_payload(recipient=2))
    broken = bad._replace(results='{"a": 1e999999}')
    with pytest.raises(asyncpg.NumericValueOutOfRangeError):
        await ingest(database, good, broken)
    for table in ("events", "event_bodies", "facts", "outcomes", "unattributed", "outcome_counts"):
        assert await database.pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_results_that_postgres_cannot_hold_are_refused_also_of_an_event_that_fits_no_batch_yet(
    database: Database,
) -> None:
    (stray,) = decode(make_payload(recipient=None, phone="+919999999999"))
    with pytest.raises(asyncpg.NumericValueOutOfRangeError):
        await ingest(database, stray._replace(results='{"a": 1e999999}'))
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 0
