"""Stories of calls that could belong to another batch: each call is counted where it belongs, or shown as open.

The people are recipients 1, 2, … of ``store_batch``; the agent also makes single calls and receives calls. Times are
hours after the first batch was created. The random histories find such cases too; these are the readable ones.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.store.database import Database
from service.webhooks.verification import check_places
from tests.factories import RECEIVED, decode, encode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.ambiguous_calls import (
    call,
    find,
    hour,
    make_dashboard_batch,
    note_dashboard_batch,
    read_states,
    register,
    settle,
)
from tests.guarantees.recount import find_differences, verify
from tests.reconciliation.walking import Provider, Walker, converse
from tests.webhooks.ingesting import ingest

WEEK = 7 * 24
MONTH = 30 * 24
NO_BATCH = "no_batch"
AMBIGUOUS = "ambiguous"


@pytest.fixture(autouse=True)
async def counters_equal_a_recount(database: Database) -> AsyncIterator[None]:
    yield
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


def heal(event_id: str, person: int, at: float, *, starts: bool = True, may_retry: bool = False) -> Event:
    """The healed event of the call that ``call`` makes under this id."""
    record = converse(person, hour(at), "busy", f"c-{event_id}") | ({} if starts else {"start_timestamp": None})
    event = to_event(decode_conversation(encode({"data": record})), received_at=RECEIVED, may_retry=may_retry)
    assert event is not None
    return event


async def see(database: Database, batch_id: int, at: float, *, is_finished: bool) -> None:
    """Records provider figures that say whether a batch is finished, and finishes all pending work."""
    await record_figures(database, batch_id, at, is_finished=is_finished)
    await settle(database)


async def record_figures(database: Database, batch_id: int, at: float, *, is_finished: bool) -> None:
    """Records the figures without placing anything again."""
    figures = {
        "in_progress_count": int(not is_finished), "pending_retry_count": 0, "total_processed": 100,
        "total_recipients": 100,
    }  # fmt: skip
    row = await database.queries.claim_batch(
        database.pool, batch_id=batch_id, holder="test", lease_seconds=60.0, now=hour(at)
    )
    key, fence = row["batch_key"], row["fence"]
    await database.queries.record_snapshot(
        database.pool, batch_key=key, fence=fence, at=hour(at), figures=encode(figures).decode()
    )
    await database.queries.release_batch(database.pool, batch_key=key, fence=fence, due_at=hour(at), retry_at=hour(at))


async def find_complete(database: Database, batch_id: int, at: float) -> None:
    """Records a comparison that finds our figures equal to the provider's."""
    row = await database.queries.claim_batch(
        database.pool, batch_id=batch_id, holder="test", lease_seconds=60.0, now=hour(at)
    )
    assert await database.queries.record_reconciliation(
        database.pool, batch_key=row["batch_key"], fence=row["fence"], at=hour(at), verdict="complete", reasons="[]",
        differences="[]", inconsistencies="[]", calls_spent=0, healed=0, due_at=hour(at), verdict_text=None,
    )  # fmt: skip
    await settle(database)


async def read_figures(service: httpx.AsyncClient, batch_id: int) -> tuple[int, int]:
    """The number of processed and of completed recipients of a batch."""
    data = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    return data["recipients"]["processed"], data["statuses"]["completed"]


async def test_last_weeks_batch_stays_at_100_percent_when_the_same_people_are_called_from_the_dashboard(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 5)
    for person in range(1, 6):
        await post_webhook(service, make_payload(recipient=person, began=hour(0)))
    assert await read_figures(service, 456) == (5, 5)

    def ring(person: int) -> dict[str, Any]:
        return make_payload(
            recipient=None, phone=phone_of(person), parameters={"loan_id": f"NEW-{person}"}, status="no_answer",
            began=hour(WEEK), event_id=f"again-{person}",
        )  # fmt: skip

    for person in (1, 2, 3):  # before the new batch is known
        await post_webhook(service, ring(person))
    assert await read_figures(service, 456) == (5, 5)
    assert len((await service.get("/v1/unattributed")).json()["data"]) == 3
    await make_dashboard_batch(database, 900, WEEK, total=5)
    for person in (4, 5):
        await post_webhook(service, ring(person))
    assert (await service.get("/v1/unattributed")).json()["data"] == []
    assert await read_figures(service, 456) == (5, 5)
    assert await read_figures(service, 900) == (5, 0)


@pytest.mark.parametrize("bare", [True, False])
async def test_single_and_inbound_calls_a_month_later_change_no_final_state(database: Database, bare: bool) -> None:
    await store_batch(database.url)
    await ingest(database, call("first", 1, 0, ref="feedc0de"))
    await ingest(database, call("single", 1, MONTH, status="busy", bare=bare, parameters={"topic": "reminder"}))
    await ingest(database, call("inbound", 1, MONTH + 1, status="failed", bare=bare, parameters={"topic": "x"}))
    assert await find(database, "first", "single", "inbound") == [(456, 1), NO_BATCH, NO_BATCH]
    assert await read_states(database, 456) == ["completed"]


async def test_a_single_call_with_a_rows_parameters_does_not_belong_to_a_batch_with_references(
    database: Database,
) -> None:
    await store_batch(database.url)
    await ingest(database, call("other", 2, 0, ref="feedc0de"))
    await ingest(database, call("single", 1, 1))
    assert await find(database, "single") == [NO_BATCH]


async def test_a_later_call_to_a_completed_recipient_is_not_healed_as_a_second_attempt(database: Database) -> None:
    key = await store_batch(database.url)
    await ingest(database, call("first", 1, 0, ref="feedc0de"))
    walker = Walker(database)
    listed = [converse(1, hour(5), "busy", "later"), converse(1, hour(0), "completed", "c-first")]
    for _ in range(2):
        progress = await walker.walk(Provider(listed), key)
        assert (progress.healed, progress.ambiguous, progress.not_due) == (0, 0, 1)
    walker.close()
    assert await read_states(database, 456) == ["completed"]
    assert await database.pool.fetchval("SELECT attempts FROM outcomes") == 1


async def test_a_call_without_parameters_counts_for_the_due_recipient_until_another_batch_may_have_made_it(
    database: Database,
) -> None:
    await store_batch(database.url)
    await ingest(database, call("ring", 1, 1, status="no_answer", bare=True))
    assert await find(database, "ring") == [(456, 1)]
    await make_dashboard_batch(database, 900, 0.5)
    assert await find(database, "ring") == [AMBIGUOUS]
    assert await read_states(database, 456) == []
    await see(database, 900, 0.75, is_finished=True)
    assert await find(database, "ring") == [(456, 1)]
    await see(database, 900, 0.8, is_finished=False)
    assert await find(database, "ring") == [AMBIGUOUS]


async def test_a_call_belongs_to_the_window_that_was_not_finished_before_it(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0)
    await make_dashboard_batch(database, 901, 0)
    await ingest(database, call("early", 1, 1), call("late", 2, 10))
    assert await find(database, "early", "late") == [AMBIGUOUS, AMBIGUOUS]
    await see(database, 900, 5, is_finished=True)
    assert await find(database, "early", "late") == [AMBIGUOUS, (901, 1)]


async def test_a_window_has_no_more_recipients_than_the_provider_says(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0, total=2)
    await ingest(database, call("a", 1, 1), call("b", 2, 1), call("a again", 1, 2, status="busy"))
    await ingest(database, call("c", 3, 1))
    assert await find(database, "a", "b", "c") == [(900, 1), (900, 2), NO_BATCH]
    await make_dashboard_batch(database, 900, 0, total=3)
    assert await find(database, "c") == [(900, 3)]


async def count_placed(database: Database, *event_ids: str) -> int:
    """Those of the events that are in batch 900, each in a recipient of its own; the others wait."""
    places = await find(database, *event_ids)
    held = await database.pool.fetchval(
        "SELECT count(*) FROM recipients JOIN batches USING (batch_key) WHERE batch_id = 900 AND withdrawn_at IS NULL"
    )
    placed = [place for place in places if place != NO_BATCH]
    assert len(set(placed)) == len(placed) == held
    return len(placed)


async def test_a_window_gives_back_what_overflowed_once_the_provider_says_a_smaller_total(database: Database) -> None:
    ids = [f"call {person}" for person in range(1, 7)]
    await make_dashboard_batch(database, 900, 0, total=6)
    await database.pool.execute("UPDATE batches SET total_recipients = NULL")
    await ingest(database, *[call(event_id, person, 1) for person, event_id in enumerate(ids, 1)])
    assert await count_placed(database, *ids) == 6, "the total is not known yet"
    for total in (4, 1, 5, 6):
        await make_dashboard_batch(database, 900, 0, total=total)
        assert await count_placed(database, *ids) == total
        assert await verify(database) == []


async def test_two_replicas_do_not_give_the_last_place_in_a_window_twice(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0, total=2)
    ids = [f"call {person}" for person in range(1, 9)]
    await asyncio.gather(*[ingest(database, call(event_id, person, 1)) for person, event_id in enumerate(ids, 1)])
    assert await count_placed(database, *ids) == 2


async def test_a_retry_without_evidence_belongs_to_the_batch_that_waits_for_one(database: Database) -> None:
    await store_batch(database.url, batch_id=456, ref_token="one")
    await store_batch(database.url, batch_id=457, ref_token="two")
    await ingest(database, call("one", 1, 0, ref="one", status="busy", final=False))
    await ingest(database, call("retry", 1, 2, attempt=2, status="busy", bare=True))
    assert await find(database, "retry") == [AMBIGUOUS]
    await ingest(database, call("two", 1, 1, ref="two"))
    assert await find(database, "retry") == [(456, 1)]
    assert (await read_states(database, 456), await read_states(database, 457)) == (["busy"], ["completed"])


async def test_equal_parameters_decide_between_batches_without_references(database: Database) -> None:
    for batch_id, first_phone in ((456, 1), (457, 3)):
        await store_batch(database.url, batch_id=batch_id, ref_token=None, first_phone=first_phone)
    await ingest(database, call("of the one", 5, 0, parameters={"loan_id": "LN-5"}))
    await ingest(database, call("of the other", 5, 1, parameters={"loan_id": "LN-3"}))
    await ingest(database, call("of neither", 6, 0, parameters={"loan_id": "LN-99"}))
    assert await find(database, "of the one", "of the other", "of neither") == [(456, 5), (457, 3), NO_BATCH]


async def test_a_single_call_that_contradicts_a_row_does_not_belong_to_its_batch_without_references(
    database: Database,
) -> None:
    await store_batch(database.url, ref_token=None)
    await ingest(database, call("single", 1, 1, parameters={"topic": "reminder"}))
    await ingest(database, call("own", 1, 2, parameters={"loan_id": "LN-1", "language": "hi"}))
    assert await find(database, "single", "own") == [NO_BATCH, (456, 1)]


async def test_once_a_reference_comes_back_calls_without_one_no_longer_belong_to_the_batch(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, call("without", 1, 0), call("bare", 2, 0, status="no_answer", bare=True))
    assert await find(database, "without", "bare") == [(456, 1), (456, 2)]
    await ingest(database, call("with", 3, 0, ref="feedc0de"))
    await settle(database)
    assert await find(database, "without", "bare", "with") == [NO_BATCH, (456, 2), (456, 3)]


async def test_a_reference_after_the_end_also_shows_that_calls_without_one_do_not_belong_to_the_batch(
    database: Database,
) -> None:
    key = await store_batch(database.url, 2)
    await ingest(database, call("without", 1, 0))
    await database.pool.execute("UPDATE batches SET closed_at = $2 WHERE batch_key = $1", key, hour(3))
    await ingest(database, call("late", 2, 21, ref="feedc0de"))
    await settle(database)
    assert await find(database, "without", "late") == [NO_BATCH, (456, 2)]


async def test_a_reference_decides_whatever_phone_was_called(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, call("crossed", 1, 0, ref="feedc0de", phone=phone_of(2), final=False, status="busy"))
    await ingest(database, heal("crossed", 2, 0))  # the same call, which its phone would give to the other recipient
    await ingest(database, call("other", 2, 1, ref="feedc0de"))
    assert await find(database, "crossed", heal("crossed", 2, 0).event_id, "other") == [(456, 1), (456, 1), (456, 2)]
    assert await read_states(database, 456) == ["pending_retry", "completed"]


async def test_a_csv_moves_calls_from_one_window_recipient_to_the_rows_they_belong_to(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0, total=3)
    await ingest(database, call("ring", 1, 0, status="busy", final=False, bare=True), call("stranger", 7, 1))
    await ingest(database, call("a", 1, 1, parameters={"loan_id": "A"}))
    await ingest(database, call("b", 1, 2, parameters={"loan_id": "B"}))
    assert await find(database, "ring", "stranger", "a", "b") == [(900, 1), (900, 2), (900, 1), (900, 3)]
    await register(database, 900, [(1, {"loan_id": "A"}), (1, {"loan_id": "B"}), (2, {"loan_id": "C"})])
    a, b, ring, stranger = await find(database, "a", "b", "ring", "stranger")
    rows = await database.pool.fetch(
        "SELECT recipient_no, parameters->>'loan_id' FROM recipients WHERE withdrawn_at IS NULL"
    )
    loans = {(900, row[0]): row[1] for row in rows}
    assert (loans[a], loans[b], ring, stranger) == ("A", "B", AMBIGUOUS, NO_BATCH)
    assert sorted(loans.values()) == ["A", "B", "C"]


async def test_a_final_call_reported_late_takes_back_later_calls(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, call("inbound", 1, 5, status="busy", bare=True))
    assert await find(database, "inbound") == [(456, 1)]
    await ingest(database, call("true", 1, 1, ref="feedc0de"))
    await settle(database)
    assert await find(database, "inbound", "true") == [NO_BATCH, (456, 1)]
    assert await read_states(database, 456) == ["completed"]


async def test_an_earlier_final_call_attributed_by_phone_alone_also_takes_back_a_later_one(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, call("later", 1, 5, status="busy", bare=True))
    await ingest(database, call("earlier", 1, 1, status="no_answer", bare=True))
    await settle(database)
    assert await find(database, "later", "earlier") == [NO_BATCH, (456, 1)]


async def test_a_refused_upload_made_no_call(database: Database) -> None:
    await store_batch(database.url, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'uploading'")
    await ingest(database, call("ring", 1, 1, status="no_answer", bare=True))
    key = await database.pool.fetchval("SELECT batch_key FROM batches")
    assert await find(database, "ring") == [(None, 1)]
    await database.queries.fail_upload(
        database.pool, batch_key=key, states=["uploading"], detail="", known_by="answer", sent_at=None
    )
    await settle(database)
    assert await find(database, "ring") == [NO_BATCH]
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == 0


@pytest.mark.parametrize("is_healed_first", [True, False])
@pytest.mark.parametrize("starts", [True, False])
async def test_a_healed_event_joins_the_webhook_of_its_call_even_if_another_batch_waits_for_the_person(
    database: Database, starts: bool, is_healed_first: bool
) -> None:
    await store_batch(database.url, batch_id=456, ref_token="one")
    await store_batch(database.url, batch_id=457, ref_token="two")
    webhook, healed = call("ring", 1, 0, ref="one", status="busy"), heal("ring", 1, 0, starts=starts)
    for event in (healed, webhook) if is_healed_first else (webhook, healed):
        await ingest(database, event)
    await settle(database)
    assert await find(database, "ring", healed.event_id) == [(456, 1), (456, 1)]
    assert await read_states(database, 457) == []


async def test_a_webhook_without_a_time_joins_the_only_call_of_its_conversation(database: Database) -> None:
    await store_batch(database.url, batch_id=456, ref_token="one")
    await store_batch(database.url, batch_id=457, ref_token="two")
    payload = make_payload(recipient=1, ref_token="one", status="busy", conversation_id="c-ring", event_id="ring")
    payload["timestamp"] = None
    payload["data"]["call"] |= {"started_at": None, "ended_at": None}
    healed = heal("ring", 1, 0)
    await ingest(database, healed)
    await ingest(database, *decode(payload))
    await settle(database)
    assert await find(database, "ring", healed.event_id) == [(456, 1), (456, 1)]


@pytest.mark.parametrize("order", list(itertools.permutations(("untimed", "last", "inbound"))))
async def test_a_call_after_a_final_one_does_not_join_an_earlier_webhook_without_a_time(
    database: Database, order: tuple[str, ...]
) -> None:
    await store_batch(database.url)
    untimed = make_payload(recipient=1, status="busy", final=False, conversation_id="c", event_id="untimed")
    untimed["timestamp"] = None
    untimed["data"]["call"] |= {"started_at": None, "ended_at": None}
    events = {
        "untimed": decode(untimed)[0],
        "last": call("last", 1, 1, ref="feedc0de", status="busy", attempt=2, conversation_id="c"),
        "inbound": call("inbound", 1, 2, status="busy", attempt=None, bare=True, conversation_id="c"),
    }
    for name in order:
        await ingest(database, events[name])
    await settle(database)
    assert await find(database, "untimed", "last", "inbound") == [(456, 1), (456, 1), NO_BATCH]
    assert await read_states(database, 456) == ["busy"]


async def test_an_unanswered_call_in_a_batchs_conversation_does_not_change_the_batchs_call(
    database: Database,
) -> None:
    await store_batch(database.url)
    await ingest(database, call("first", 1, 0, ref="feedc0de", conversation_id="kept", attempt=1))
    payload = make_payload(
        event_id="chained", recipient=None, phone=phone_of(1), parameters={"topic": "reminder"}, status="no_answer",
        conversation_id="kept", attempt=1, began=hour(0.75),
    )  # fmt: skip
    payload["data"]["call"] |= {"started_at": None, "ended_at": None}  # unanswered, so it never started
    await ingest(database, *decode(payload))
    await settle(database)
    assert await find(database, "first", "chained") == [(456, 1), NO_BATCH]
    assert await read_states(database, 456) == ["completed"]


async def test_an_event_attributed_by_phone_keeps_all_its_fields(database: Database) -> None:
    await store_batch(database.url)
    event = call("ring", 1, 0, status="busy", bare=True)
    await ingest(database, event)
    row = await database.pool.fetchrow("SELECT * FROM facts")
    assert row is not None
    names = ("conversation_id", "status", "failure_reason", "started_at", "ended_at", "occurred_at", "attempt_number")
    assert {name: row[name] for name in names} == {name: getattr(event, name) for name in names}


async def test_no_call_waits_for_a_window_that_has_room(database: Database) -> None:
    a, b = {"loan_id": "A"}, {"loan_id": "B"}
    await ingest(
        database, call("a", 1, 1, status="busy", final=False, parameters=a), call("late", 1, 3),
        heal("a", 1, 1, may_retry=True),
    )  # fmt: skip
    await note_dashboard_batch(database, 900, 0.9, total=2)
    await record_figures(database, 900, 2, is_finished=True)
    await ingest(
        database, call("b again", 1, 2.05, attempt=2, parameters=b),
        call("b", 1, 1.1, status="busy", final=False, parameters=b), call("other", 2, 1.8),
    )  # fmt: skip
    await record_figures(database, 900, 4, is_finished=False)
    await settle(database)
    held = await database.pool.fetchval("SELECT count(*) FROM recipients WHERE withdrawn_at IS NULL")
    found = await find(database, "a", "b", "b again", "other", "late")
    assert (held, NO_BATCH in found) == (2, True), found


async def test_a_complete_batch_keeps_its_end_when_its_last_call_leaves_it(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0)
    await ingest(database, call("first", 1, 1), call("last", 2, 3))
    await find_complete(database, 900, 4)
    await register(database, 900, [(1, {"loan_id": "LN-1"}), (2, {"loan_id": "LN-2"}), (2, {"loan_id": "LN-2"})])
    assert await find(database, "first", "last") == [(900, 1), AMBIGUOUS]
    places = partial(database.queries.check_places, batch_key=None)
    elsewhere = [finding async for finding in check_places(database, places, lambda count: None)]
    assert elsewhere == []


async def test_a_freed_place_in_a_window_goes_to_a_waiting_call(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0, total=1)
    await ingest(database, call("bare", 1, 1, status="busy", bare=True, conversation_id="c"))
    await ingest(database, call("other", 2, 1))
    assert await find(database, "bare", "other") == [(900, 1), NO_BATCH]
    await store_batch(database.url)
    await ingest(database, call("named", 1, 1, ref="feedc0de", status="busy", conversation_id="c"))
    await settle(database)
    assert await find(database, "bare", "named") == [(456, 1), (456, 1)]
    assert await find(database, "other") != [NO_BATCH]


async def test_a_recipient_known_by_phone_loses_the_parameters_of_a_call_that_proves_not_theirs(
    database: Database,
) -> None:
    await make_dashboard_batch(database, 900, 0)
    await ingest(database, call("first", 1, 1, status="busy", final=False, bare=True))
    await ingest(database, call("single", 1, 3, parameters={"topic": "reminder"}))
    await settle(database)
    await ingest(database, call("last", 1, 2, attempt=2, status="busy", bare=True))
    await settle(database)
    assert await find(database, "first", "single", "last") == [(900, 2), NO_BATCH, (900, 2)]
    assert await database.pool.fetchval("SELECT parameters FROM recipients WHERE withdrawn_at IS NULL") == "{}"


async def test_a_guess_is_no_evidence_for_itself_when_another_batch_appears(database: Database) -> None:
    await make_dashboard_batch(database, 900, 0)
    await ingest(database, call("first", 1, 0.5, status="busy", final=False, bare=True))
    await ingest(database, call("of another", 1, 2, status="busy", parameters={"loan_id": "ANOTHER"}))
    await make_dashboard_batch(database, 901, 1.5)
    assert await find(database, "first", "of another") == [(900, 2), AMBIGUOUS]


async def test_a_copy_of_a_finished_batch_with_the_same_references_gets_its_own_calls(
    database: Database,
) -> None:
    key = await store_batch(database.url, 2)
    await ingest(database, call("reached", 1, 1, ref="feedc0de"))
    await ingest(database, call("busy", 2, 1, ref="feedc0de", status="busy", final=False))
    await database.pool.execute("UPDATE batches SET closed_at = $2 WHERE batch_key = $1", key, hour(3))
    await make_dashboard_batch(database, 900, 20, total=1)
    await ingest(database, call("copied", 1, 21, ref="feedc0de", status="no_answer"))
    await ingest(database, call("still due", 2, 21, ref="feedc0de", attempt=2))
    assert await find(database, "reached", "copied", "still due") == [(456, 1), NO_BATCH, (456, 2)]
    copied = '{"loan_id": "LN-1", "outcome_ref": "feedc0de-1"}'
    await database.pool.execute(
        "INSERT INTO recipients (batch_key, recipient_no, phone, parameters) "
        "SELECT batch_key, 1, $1, $2 FROM batches WHERE batch_id = 900", phone_of(1), copied,
    )  # fmt: skip
    await database.pool.execute("UPDATE batches SET is_registered = true, recipient_count = 1 WHERE batch_id = 900")
    await settle(database)
    assert await find(database, "reached", "copied", "still due") == [(456, 1), (900, 1), (456, 2)]


async def test_a_recipient_who_is_finished_by_a_call_to_another_number_loses_later_calls_to_their_own(
    database: Database,
) -> None:
    await store_batch(database.url)
    await ingest(
        database,
        call("misdialled", 1, 0, ref="feedc0de", phone=phone_of(9), status="busy", final=False),
        call("later", 1, 2, bare=True, attempt=2),
    )
    assert await find(database, "later") == [(456, 1)]
    ended = to_event(
        decode_conversation(encode({"data": converse(9, hour(0), "completed", "c-misdialled")})),
        received_at=RECEIVED, may_retry=False, contradicted=(1, hour(0)),
    )  # fmt: skip
    assert ended is not None
    await ingest(database, ended)
    await settle(database)
    assert await find(database, ended.event_id, "later") == [(456, 1), NO_BATCH]


async def test_a_retry_by_reference_shows_where_an_ambiguous_call_of_its_conversation_belongs(
    database: Database,
) -> None:
    await store_batch(database.url, ref_token="feedc0de")
    await store_batch(database.url, batch_id=457, ref_token="0ther")
    await ingest(database, call("first", 1, 1, status="busy", final=False, bare=True, conversation_id="shared"))
    assert await find(database, "first") == [AMBIGUOUS]
    await ingest(database, call("retry", 1, 2, ref="0ther", conversation_id="shared", attempt=2))
    assert await find(database, "first", "retry") == [(457, 1), (457, 1)]


async def test_a_finished_call_reported_late_still_counts_by_its_reference(database: Database) -> None:
    key = await store_batch(database.url, 1)
    await ingest(database, call("final", 1, 2, ref="feedc0de", attempt=2))
    await database.pool.execute("UPDATE batches SET closed_at = $2 WHERE batch_key = $1", key, hour(3))
    await ingest(database, call("first", 1, 1, ref="feedc0de", status="busy", final=False))
    assert await find(database, "final", "first") == [(456, 1), (456, 1)]
