"""The healer, among conversations in any order and of any batch: finds what is missing, and never guesses."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.reconciliation.healer import Progress
from service.store.database import Database
from tests.factories import BEGAN, decode, make_payload, phone_of, store_batch
from tests.reconciliation.walking import STARTED, Provider, Walker, converse
from tests.webhooks.ingesting import ingest, list_outcomes


@pytest.fixture
async def walker(database: Database) -> AsyncIterator[Walker]:
    made = Walker(database)
    yield made
    made.close()


async def states(database: Database) -> dict[tuple[int, int], str]:
    return {(row["batch_key"], row["recipient_no"]): row["state"] for row in await list_outcomes(database)}


async def test_calls_are_found_between_thousands_of_others_by_pages_alone(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    strangers = [converse(None, BEGAN + timedelta(seconds=n)) for n in range(1500)]
    listed = [*strangers[:1], converse(1), *strangers[1:900], converse(2), *strangers[900:], converse(3)]
    provider = Provider(listed)
    progress = await walker.walk(provider, key)
    assert (progress.healed, progress.ambiguous, provider.fetched) == (3, 0, [])
    assert await states(database) == {(key, number): "busy" for number in (1, 2, 3)}
    assert sorted(set(walker.saved)) == list(range(80, 1441, 80))


async def test_pages_that_shift_while_they_are_read_hide_nothing(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url, 300)
    listed = [converse(number, BEGAN + timedelta(minutes=300 - number)) for number in range(1, 291)]
    arriving = [converse(number, BEGAN + timedelta(minutes=400 + number)) for number in range(291, 296)]
    provider = Provider(listed, arriving)
    first = await walker.walk(provider, key)
    second = await walker.walk(provider, key)
    assert first.healed + second.healed == 295
    assert (await walker.walk(provider, key)).found == 0
    assert len(await states(database)) == 295


async def test_a_walk_ends_once_it_is_past_the_beginning_of_the_batch(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    older = [converse(None, STARTED - timedelta(hours=2, minutes=n)) for n in range(3000)]
    provider = Provider([converse(1), *older])
    assert (await walker.walk(provider, key)).healed == 1
    assert provider.pages == 4


@pytest.mark.parametrize("newest_last", [True, False])
async def test_a_list_in_another_order_is_read_to_its_end(
    database: Database, walker: Walker, newest_last: bool
) -> None:
    key = await store_batch(database.url)
    older = [converse(None, STARTED - timedelta(days=30) + timedelta(minutes=n)) for n in range(1000)]
    if not newest_last:  # no order at all
        older = [older[(n * 7919) % 1000] for n in range(1000)]
    assert (await walker.walk(Provider([*older, converse(1)]), key)).healed == 1


async def test_a_call_that_is_known_by_its_webhook_is_neither_fetched_nor_healed(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    webhook = make_payload(recipient=1, status="busy", began=BEGAN, conversation_id="c")
    await ingest(database, *decode(webhook))
    provider = Provider([converse(1, conversation_id="c")])
    assert await walker.walk(provider, key) == Progress()
    assert (provider.fetched, walker.met) == ([], {"c"})


async def test_a_healed_call_that_waits_becomes_final_once_nobody_waits(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    provider = Provider([converse(1)])
    for may_retry, found, state in ((True, 1, "pending_retry"), (True, 0, "pending_retry"), (False, 1, "busy")):
        assert (await walker.walk(provider, key, may_retry=may_retry)).found == found
        assert await states(database) == {(key, 1): state}
    assert (await walker.walk(provider, key)).found == 0
    assert (await walker.walk(provider, key, may_retry=True)).found == 0


async def test_a_call_that_two_open_batches_may_have_made_is_left_alone_and_reported(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    await store_batch(database.url, batch_id=457, ref_token="other")
    progress = await walker.walk(Provider([converse(1)]), key)
    assert (progress.healed, progress.ambiguous) == (0, 1)
    assert await states(database) == {}


async def test_a_phone_that_a_batch_holds_twice_is_left_alone_and_reported(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    await database.pool.execute("UPDATE recipients SET phone = $1 WHERE recipient_no = 2", phone_of(1))
    assert (await walker.walk(Provider([converse(1)]), key)).ambiguous == 1


async def test_calls_that_are_left_out_are_counted_once_by_their_reason(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    await store_batch(database.url, 1, batch_id=457, ref_token="other", first_phone=2)  # it has recipient 2, too
    for number in (1, 3):
        await ingest(database, *decode(make_payload(recipient=number, began=BEGAN)))
    await ingest(
        database,
        *decode(make_payload(recipient=None, phone=phone_of(99), parameters={}, conversation_id="w", began=BEGAN)),
    )
    late = BEGAN + timedelta(hours=1)
    odd = [converse(1, late), converse(2, late), converse(3, late), converse(4, BEGAN, conversation_id="w")]
    strangers = [converse(None, BEGAN + timedelta(seconds=n)) for n in range(250)]
    progress = await walker.walk(Provider([*strangers[:85], *odd, *strangers[85:]]), key)  # where two pages overlap
    assert (progress.healed, progress.ambiguous, progress.waiting, progress.not_due) == (0, 1, 1, 2)


async def test_a_page_is_healed_oldest_first(database: Database, walker: Walker) -> None:
    key = await store_batch(database.url)
    later, first = converse(1, BEGAN + timedelta(hours=1), "completed"), converse(1, BEGAN, "completed")
    progress = await walker.walk(Provider([later, first]), key)
    assert (progress.healed, progress.not_due) == (1, 1)
    assert await database.pool.fetchval("SELECT count(*) FROM unattributed") == 0


async def test_a_batch_that_was_done_with_the_recipient_before_the_call_did_not_make_it(
    database: Database, walker: Walker
) -> None:
    old = await store_batch(database.url)
    key = await store_batch(database.url, batch_id=457, ref_token="other")
    await ingest(database, *decode(make_payload(recipient=1, status="busy", began=BEGAN - timedelta(minutes=30))))
    assert (await walker.walk(Provider([converse(1)]), key)).healed == 1
    assert await states(database) == {(old, 1): "busy", (key, 1): "busy"}


async def test_an_earlier_call_of_a_known_conversation_belongs_to_its_recipient(
    database: Database, walker: Walker
) -> None:
    await store_batch(database.url)
    key = await store_batch(database.url, batch_id=457, ref_token="other")
    later = make_payload(
        recipient=1, ref_token="other", attempt=2, began=BEGAN + timedelta(hours=1), conversation_id="kept"
    )
    await ingest(database, *decode(later))
    assert (await walker.walk(Provider([converse(1, conversation_id="kept")]), key)).healed == 1
    (row,) = await list_outcomes(database)
    assert (row["batch_key"], row["state"], row["attempts"]) == (key, "completed", 2)


async def test_of_attempts_that_share_an_id_the_earlier_is_healed_from_the_list(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    latest = converse(1, BEGAN + timedelta(hours=1), "completed", "kept")
    first = converse(1, conversation_id="kept")
    assert (await walker.walk(Provider([latest, first]), key)).healed == 2
    (row,) = await list_outcomes(database)
    assert (row["state"], row["attempts"]) == ("completed", 2)
    bodies = [json.loads(row["body"]) for row in await database.pool.fetch("SELECT body FROM event_bodies")]
    assert first in bodies


async def test_a_call_that_is_ongoing_or_ended_with_an_unknown_status_is_no_outcome(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    ringing = converse(1, status="in_progress") | {"end_timestamp": None}
    progress = await walker.walk(Provider([ringing, converse(2, status="voicemail")]), key)
    assert (progress.healed, progress.unknown) == (0, 1)
    assert await states(database) == {}


async def test_a_conversation_that_contradicts_a_webhook_is_the_later_word_and_both_are_kept(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    webhook = make_payload(recipient=1, status="failed", began=BEGAN, conversation_id="c")
    await ingest(database, *decode(webhook))
    provider = Provider([converse(1, conversation_id="c", status="completed")])
    assert (await walker.walk(provider, key)).healed == 1
    assert await states(database) == {(key, 1): "completed"}
    assert await database.pool.fetchval("SELECT attempts FROM outcomes") == 1
    assert (await walker.walk(provider, key)).found == 0
    await ingest(database, *decode(webhook | {"event_id": "sent-again"}))
    assert await states(database) == {(key, 1): "completed"}
    facts = await database.pool.fetch("SELECT source, status, attempt_number FROM facts ORDER BY arrival_id LIMIT 2")
    assert [tuple(row) for row in facts] == [("webhook", "failed", 1), ("healed", "completed", 1)]

    provider.listed[0]["status"] = "failed"  # it changes its mind once more
    assert (await walker.walk(provider, key)).healed == 1
    assert await states(database) == {(key, 1): "failed"}


async def test_a_healed_call_whose_late_webhook_says_otherwise_is_settled_by_the_conversation(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    provider = Provider([converse(1, conversation_id="c", status="completed")])
    await walker.walk(provider, key)
    await ingest(database, *decode(make_payload(recipient=1, status="failed", began=BEGAN, conversation_id="c")))
    assert await states(database) == {(key, 1): "failed"}
    assert (await walker.walk(provider, key)).healed == 1
    assert await states(database) == {(key, 1): "completed"}
    assert await database.pool.fetchval("SELECT attempts FROM outcomes") == 1


async def test_a_telephony_failure_that_is_reported_as_failed_is_no_contradiction(
    database: Database, walker: Walker
) -> None:
    key = await store_batch(database.url)
    webhook = make_payload(recipient=1, status="telephony_failed", began=BEGAN, conversation_id="c")
    await ingest(database, *decode(webhook))
    provider = Provider([converse(1, conversation_id="c", status="failed")])
    assert (await walker.walk(provider, key)).found == 0
    assert await states(database) == {(key, 1): "telephony_failed"}


async def test_a_call_is_the_recipients_however_the_provider_writes_the_phone(
    walker: Walker, database: Database
) -> None:
    key = await store_batch(database.url)
    listed = [
        converse(recipient) | {"contact_number": said.format(phone_of(recipient)[1:])}
        for recipient, said in enumerate(["{}", "00{}", "+{}", "tel:+{};ext=1", "sip:{}@host"], 1)
    ]
    progress = await walker.walk(Provider(listed), key)
    assert (progress.healed, progress.ambiguous) == (5, 0)
    assert [row["recipient_no"] for row in await list_outcomes(database)] == [1, 2, 3, 4, 5]
    assert (await walker.walk(Provider(listed), key)).healed == 0
