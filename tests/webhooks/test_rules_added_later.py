"""A call that a rule knows to be outside batches is there with all its events, however late the rule is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.exposition import read_alarms
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, RECEIVED, encode, phone_of, post_webhook, store_batch
from tests.guarantees.healing import read_outcomes
from tests.guarantees.recount import verify
from tests.guarantees.test_attributed_again import reattribute
from tests.reconciliation.walking import Provider, Walker, converse
from tests.webhooks.ingesting import ingest
from tests.webhooks.test_other_calls import OWN, assert_sound, list_calls, make_inbound, write_rules


def heal(conversation_id: str = "c", **more: Any) -> Event:
    """The conversation of the inbound call: it names the person, whereas the webhook names the agent's number."""
    record = converse(1, BEGAN, "completed", conversation_id) | more
    event = to_event(decode_conversation(encode({"data": record})), received_at=RECEIVED, may_retry=False)
    assert event is not None
    return event


async def wait_for_sweep(database: Database) -> None:
    await eventually(lambda: database.pool.fetchval("SELECT bool_or(ended_at IS NOT NULL) FROM rule_sweeps"))


async def assert_outside(service: httpx.AsyncClient, database: Database, *event_ids: str) -> None:
    """The events are one inbound call of recipient 1, and nothing else."""
    calls = await list_calls(service)
    assert [(call["kind"], call["phone"], call["conversation_id"]) for call in calls] == [("inbound", phone_of(1), "c")]
    for event_id in event_ids:
        event = (await service.get(f"/v1/events/{event_id}")).json()["data"]
        assert (event["disposition"], event["kind"]) == ("other_call", "inbound")
    assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 0
    assert await verify(database) == []
    assert "unattributed_events" not in await read_alarms(service)
    await assert_sound(database)


@pytest.mark.parametrize("is_healed_first", [True, False])
async def test_an_inbound_call_counts_for_nobody_until_a_rule_that_is_added_later_takes_its_conversation_along(
    start_service: StartService, database: Database, tmp_path: Path, is_healed_first: bool
) -> None:
    await store_batch(database.url, 3, ref_token=None)
    waiting, healed = make_inbound(conversation_id="c", began=BEGAN, event_id="w"), heal()
    async with start_service() as service:
        if is_healed_first:
            await ingest(database, healed)
            assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 1
        assert (await post_webhook(service, waiting)).status_code == 204
        if not is_healed_first:
            await ingest(database, healed)
        assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 0
        assert (await read_alarms(service))["unattributed_events"]["count"] == 1
        assert await verify(database) == []
    async with start_service(**write_rules(tmp_path)) as service:
        await wait_for_sweep(database)
        await assert_outside(service, database, "w", healed.event_id)


@pytest.mark.parametrize("is_healed_first", [True, False])
async def test_a_conversation_goes_with_the_inbound_call_that_a_rule_knows_whichever_comes_first(
    start_service: StartService, database: Database, tmp_path: Path, is_healed_first: bool
) -> None:
    await store_batch(database.url, 3, ref_token=None)
    inbound, healed = make_inbound(conversation_id="c", began=BEGAN, event_id="w"), heal()
    async with start_service(**write_rules(tmp_path)) as service:
        if is_healed_first:
            await ingest(database, healed)
        assert (await post_webhook(service, inbound)).status_code == 204
        if not is_healed_first:
            await ingest(database, healed)
        await assert_outside(service, database, "w", healed.event_id)


async def test_what_an_older_version_counted_twice_is_found_and_moved(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_batch(database.url, 3, ref_token=None)
    healed = heal()
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, make_inbound(conversation_id="c", began=BEGAN))).status_code == 204
        await database.pool.execute("UPDATE other_events SET is_ruled = false")
        await ingest(database, healed)
        await database.pool.execute("UPDATE other_events SET is_ruled = true")
        assert await verify(database) == ["placement"]
        assert await reattribute(database) == 1
        await assert_outside(service, database, healed.event_id)


async def test_a_conversation_of_which_a_webhook_waits_under_another_phone_is_not_healed(
    start_service: StartService, database: Database
) -> None:
    key = await store_batch(database.url, 3)
    async with start_service() as service:
        assert (await post_webhook(service, make_inbound(conversation_id="c", began=BEGAN))).status_code == 204
        walker = Walker(database)
        progress = await walker.walk(Provider([converse(1, BEGAN, "completed", "c")]), key)
        walker.close()
        assert (progress.healed, progress.waiting) == (0, 1)
        listed = (await service.get("/v1/unattributed")).json()["data"]
        assert [(row["source"], row["is_question"], row["phone"]) for row in listed] == [("webhook", True, OWN)]
        assert (await read_alarms(service))["unattributed_events"]["count"] == 1


async def test_a_conversation_without_a_place_is_listed_and_is_nobodys_alarm(
    start_service: StartService, database: Database
) -> None:
    await ingest(database, heal())
    async with start_service() as service:
        listed = (await service.get("/v1/unattributed")).json()["data"]
        assert [(row["source"], row["is_question"], row["reason"]) for row in listed] == [("healed", False, "no_batch")]
        assert "unattributed_events" not in await read_alarms(service)


@pytest.mark.parametrize("caller", [None, "", "anonymous", "56161", OWN])
async def test_the_person_of_an_inbound_call_from_a_withheld_number_is_unknown(
    start_service: StartService, database: Database, tmp_path: Path, caller: str | None
) -> None:
    await store_batch(database.url, 3, ref_token=None)
    payload = make_inbound(conversation_id="c", began=BEGAN)
    payload["data"]["call"] |= {"from_phone": caller, "call_parameters": {"menu": "2"}}
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, payload)).status_code == 204
        (shown,) = await list_calls(service)
        assert (shown["kind"], shown["phone"], shown["parameters"]) == ("inbound", None, {"menu": "2"})
        await ingest(database, heal())  # the provider's list has the caller
        assert [(call["kind"], call["source"]) for call in await list_calls(service)] == [("inbound", "webhook")]
        assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 0
        assert await database.pool.fetchval("SELECT phone FROM bi_full.other_calls") is None
    for forgotten in (1, 0):  # retention reaches it too
        assert await database.pool.fetchval("SELECT forget_other_calls(now() + interval '1 year', 10)") == forgotten


async def test_an_own_number_that_was_stored_as_a_persons_is_cleared_when_the_service_starts(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with start_service(**write_rules(tmp_path)) as service:
        for number in range(2):
            began = BEGAN + timedelta(hours=number)
            assert (await post_webhook(service, make_inbound(began=began))).status_code == 204
    await database.pool.execute("UPDATE other_events SET phone = $1 WHERE called_at > $2", OWN, BEGAN)
    async with start_service(**write_rules(tmp_path)) as service:

        async def is_cleared() -> bool:
            phones = [call["phone"] for call in await list_calls(service, agent_id=AGENT_ID)]
            return phones == [phone_of(1), None]

        await eventually(is_cleared)
