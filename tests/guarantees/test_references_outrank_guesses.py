"""A call that was placed by its phone leaves its recipient when a webhook's reference proves that it is not theirs.

The people are recipients of ``store_batch``, and times are hours after its first call.
"""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.store.database import Database
from tests.factories import RECEIVED, encode, store_batch
from tests.guarantees.ambiguous_calls import call, find, hour, read_states, settle
from tests.guarantees.recount import find_differences, verify
from tests.guarantees.test_attributed_again import reattribute
from tests.reconciliation.walking import Provider, Walker, converse
from tests.webhooks.ingesting import ingest

NO_BATCH = "no_batch"
THEIRS = (456, 1)


@pytest.fixture(autouse=True)
async def counters_equal_a_recount(database: Database) -> AsyncIterator[None]:
    yield
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


def listed(at: float, status: str, name: str) -> dict[str, Any]:
    return converse(1, hour(at), status, f"c-{name}")


def heal(at: float, status: str, name: str = "guess", *, may_retry: bool = False) -> Event:
    event = to_event(
        decode_conversation(encode({"data": listed(at, status, name)})), received_at=RECEIVED, may_retry=may_retry
    )
    assert event is not None
    return event


def referenced(name: str, at: float, number: int | None, *, final: bool = False) -> Event:
    return call(name, 1, at, ref="feedc0de", attempt=number, status="busy", final=final)


@pytest.mark.parametrize(
    ("guess", "references", "place"),
    [
        (heal(0.2, "completed"), [(0.5, 1)], NO_BATCH),
        (heal(0.2, "busy"), [(0.5, 1)], NO_BATCH),  # nothing comes before the first attempt
        (heal(0.2, "busy"), [(0.5, 2)], THEIRS),
        (heal(0.2, "completed"), [(0.5, 2)], NO_BATCH),  # nobody is called again after that
        (heal(0.2, "completed"), [(0.5, None)], NO_BATCH),
        (heal(0.2, "busy"), [(0.5, None)], THEIRS),
        (heal(0.7, "busy"), [(0.5, 1), (1, 2)], NO_BATCH),  # no number is left between them
        (heal(0.7, "busy"), [(0.5, 1), (1, 3)], THEIRS),
        (heal(0.7, "completed"), [(0.5, 1), (1, 3)], NO_BATCH),
        (heal(1.5, "completed"), [(0.5, 1), (1, 2)], THEIRS),
        (call("guess", 1, 0.2, status="busy", final=False, attempt=1, bare=True), [(0.5, 2)], THEIRS),
        (call("guess", 1, 0.2, status="busy", final=False, attempt=2, bare=True), [(0.5, 2)], NO_BATCH),
        (call("guess", 1, 0.7, status="busy", final=False, attempt=1, bare=True), [(0.5, 1)], NO_BATCH),
        (call("guess", 1, 0.2, status="busy", final=True, attempt=1, bare=True), [(0.5, 2)], NO_BATCH),
        (call("guess", 1, 0.5, status="busy", final=False, attempt=1, bare=True), [(0.5, 1)], THEIRS),
    ],
)
async def test_a_guess_that_references_refute_is_taken_back_whatever_came_first(
    database: Database, guess: Event, references: list[tuple[float, int | None]], place: Any
) -> None:
    events = [guess, *(referenced(f"r{n}", at, number) for n, (at, number) in enumerate(references))]
    for order in itertools.permutations(events):
        await store_batch(database.url)
        for event in order:
            await ingest(database, event)
        assert await find(database, guess.event_id, "r0") == [place, THEIRS]
        assert await verify(database) == []
        await database.pool.execute(
            "TRUNCATE batches, recipients, facts, events, event_bodies, outcomes, unattributed, unreferenced_events, "
            "outcome_counts, result_counts, result_totals, attempt_counts, call_counts, talk_time_counts, "
            "contact_counts, retry_counts, batch_activity, reference_batches, outstanding_details, past_facts, "
            "placement_jobs, assignments"
        )


async def test_a_strangers_call_does_not_keep_the_batchs_own_call_from_being_healed(database: Database) -> None:
    key = await store_batch(database.url)
    walker = Walker(database)
    strangers, own = listed(0.2, "completed", "stranger"), listed(1.1, "completed", "own")
    assert (await walker.walk(Provider([strangers]), key)).healed == 1
    assert await read_states(database, 456) == ["completed"]
    await ingest(database, referenced("first", 0.6, 1))
    assert await read_states(database, 456) == ["pending_retry"]
    progress = await walker.walk(Provider([own, strangers]), key)
    assert (progress.healed, progress.waiting, progress.not_due, progress.ambiguous) == (1, 1, 0, 0)
    walker.close()
    assert await read_states(database, 456) == ["completed"]
    assert await database.pool.fetchval("SELECT attempts FROM outcomes") == 2


async def test_a_refuted_call_is_not_healed(database: Database) -> None:
    key = await store_batch(database.url)
    await ingest(database, referenced("first", 0.6, 1))
    walker = Walker(database)
    strangers, own = listed(0.2, "completed", "stranger"), listed(1.1, "completed", "own")
    progress = await walker.walk(Provider([own, strangers]), key)
    assert (progress.healed, progress.not_due) == (1, 1)
    walker.close()
    assert await database.pool.fetchval("SELECT count(*) FROM unattributed") == 0


async def test_a_reference_that_refutes_one_of_two_batches_leaves_the_other(database: Database) -> None:
    await store_batch(database.url)
    await store_batch(database.url, batch_id=457, ref_token="0ther")
    guess = heal(0.2, "busy", may_retry=True)
    await ingest(database, guess)
    assert await find(database, guess.event_id) == ["ambiguous"]
    await ingest(database, referenced("first", 0.6, 1))
    assert await find(database, guess.event_id) == [(457, 1)]


async def test_a_call_from_before_the_batch_is_not_placed_again_by_its_references(database: Database) -> None:
    await ingest(database, call("early", 1, -20, status="busy", bare=True))
    await store_batch(database.url)
    await settle(database)
    await ingest(database, referenced("first", 0.6, 1))
    assert await find(database, "early") == [NO_BATCH]


async def test_a_guess_that_an_older_version_kept_is_found_and_taken_back(database: Database) -> None:
    await store_batch(database.url)
    guess = heal(0.2, "busy", may_retry=True)
    await ingest(database, guess, referenced("later", 0.6, 2))
    await database.pool.execute("UPDATE facts SET attempt_number = 1 WHERE event_id = 'later'")
    assert "placement" in await verify(database)
    assert await reattribute(database) == 1
    assert await find(database, guess.event_id) == [NO_BATCH]
