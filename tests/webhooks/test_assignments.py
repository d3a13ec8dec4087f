"""An event that nothing decides is placed by hand: it counts where it was put, and stays there."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.recount import find_differences, verify
from tests.guarantees.test_attributed_again import reattribute
from tests.webhooks.ingesting import heal, ingest

OTHER = 457
STRANGER = "+917900000001"
AMBIGUOUS = "ambiguous"


async def store_both(database: Database) -> None:
    """Two batches that are calling the same three people; no call of either has borne a reference yet."""
    await store_batch(database.url, 3)
    await store_batch(database.url, 3, batch_id=OTHER, ref_token="0ther")


def ambiguous(**fields: Any) -> dict[str, Any]:
    """A webhook of a call to the first person, from which nothing says which batch it is of."""
    usual: dict[str, Any] = {"phone": phone_of(1), "event_id": AMBIGUOUS, "conversation_id": "c-1", "began": BEGAN}
    return make_payload(recipient=None, parameters={}, **(usual | fields))


async def find_arrival(service: httpx.AsyncClient) -> int:
    (row,) = (await service.get("/v1/unattributed")).json()["data"]
    return int(row["arrival_id"])


async def assign(service: httpx.AsyncClient, arrival_id: int, **content: Any) -> httpx.Response:
    return await service.post(f"/v1/unattributed/{arrival_id}/assignment", json=content)


async def receive(service: httpx.AsyncClient, **fields: Any) -> int:
    """Posts the ambiguous webhook; returns its arrival."""
    assert (await post_webhook(service, ambiguous(**fields))).status_code == 204
    return await find_arrival(service)


async def place_of(service: httpx.AsyncClient, event_id: str = AMBIGUOUS) -> tuple[Any, ...]:
    event = (await service.get(f"/v1/events/{event_id}")).json()["data"]
    return event["disposition"], event["batch_id"], event["recipient"], event["method"]


async def assert_sound(database: Database) -> None:
    assert await verify(database) == []
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_an_assigned_event_counts_where_it_was_put_in_every_figure(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    assert (
        await service.put(f"/v1/agents/{AGENT_ID}/goal", json={"results": {"intent": ["promise_to_pay"]}})
    ).is_success
    arrival_id = await receive(service)
    answer = await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    assert (answer.status_code, answer.json()["data"]) == (
        200,
        {"arrival_id": arrival_id, "batch_id": OTHER, "recipient": 1, "kind": None, "is_changed": True},
    )
    assert await place_of(service) == ("applied", OTHER, 1, "manual")
    outcomes = (await service.get(f"/v1/batch-calls/{OTHER}/outcomes")).json()["data"]
    assert (outcomes["statuses"]["completed"], outcomes["goal"]["met"]) == (1, 1)
    (entry,) = (await service.get("/v1/feed")).json()["data"]
    assert (entry["batch_id"], entry["recipient"], entry["state"]) == (OTHER, 1, "completed")
    assert (await service.get("/v1/unattributed")).json()["data"] == []
    (line,) = (await service.get("/v1/audit", params={"action": "event_assigned"})).json()["data"]
    assert (line["actor"], line["subject"], line["details"]) == (
        "setting",
        f"arrival {arrival_id}",
        {"arrival_id": arrival_id, "batch_id": OTHER, "recipient": 1},
    )
    await assert_sound(database)


async def test_it_stays_there_through_rebuilds_new_evidence_and_repetition(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    webhook = ambiguous()
    assert (await post_webhook(service, webhook)).status_code == 204
    arrival_id = await find_arrival(service)
    await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    before = (await service.get("/v1/feed")).json()["next"]
    again = await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    assert (again.status_code, again.json()["data"]["is_changed"]) == (200, False)
    assert (await post_webhook(service, webhook)).status_code == 204, "delivered again"
    # From now on the other batch is known to bear references, so the evidence speaks for the first one.
    await post_webhook(service, make_payload(recipient=2, ref_token="0ther", began=BEGAN))
    await database.pool.execute("SELECT place_again(batch_key, NULL) FROM batches")
    while job := await database.pool.fetchval("SELECT min(job_id) FROM placement_jobs"):
        await database.pool.fetchval("SELECT placement_step($1, 100)", job)
    assert await reattribute(database) == 0
    async for _ in Rebuilder(database).rebuild():
        pass
    assert await place_of(service) == ("applied", OTHER, 1, "manual")
    entries = (await service.get("/v1/feed", params={"after": before})).json()["data"]
    assert [entry["recipient"] for entry in entries] == [2]
    assert len((await service.get("/v1/audit", params={"action": "event_assigned"})).json()["data"]) == 1
    await assert_sound(database)


async def test_other_events_of_its_call_follow_it_and_it_ends_the_recipient_for_no_other_call(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    arrival_id = await receive(service)
    await post_webhook(service, ambiguous(event_id="twin"))
    await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    assert (await place_of(service, "twin"))[1:] == (OTHER, 1, "recipient")
    await ingest(database, heal(status="completed", conversation_id="c-1"))
    assert (await service.get("/v1/unattributed")).json()["data"] == []
    # What a person said of one call is no evidence about another.
    later = ambiguous(event_id="later", conversation_id="c-2", began=BEGAN + timedelta(hours=3))
    assert (await post_webhook(service, later)).status_code == 204
    assert (await place_of(service, "later"))[0] == "unattributed"
    assert await reattribute(database) == 0
    await assert_sound(database)


@pytest.mark.parametrize(
    ("content", "status", "named"),
    [
        ({"batch_id": 1, "recipient": 1}, 404, "batch_id: there is no batch 1"),
        ({"batch_id": OTHER, "recipient": 4}, 404, "recipient: batch 457 has no recipient 4"),
        ({"batch_id": OTHER, "recipient": 2}, 409, "accept_phone"),
        ({"batch_id": 458, "recipient": 1}, 409, "batch 458 is of another agent"),
        ({"batch_id": OTHER}, 400, "Send batch_id and recipient, or kind"),
        ({}, 400, "Send batch_id and recipient, or kind"),
        ({"batch_id": OTHER, "recipient": 1, "kind": "single"}, 400, "kind: a call in no batch has no recipient"),
        ({"kind": "batch"}, 400, "kind"),
        ({"batch_id": OTHER, "recipient": 0}, 400, "recipient"),
        ({"batch_id": 2**63, "recipient": 1}, 400, "batch_id"),
        ({"batch_id": OTHER, "recipient": 1, "phone": "x"}, 400, "phone"),
    ],
)
async def test_what_contradicts_it_is_named_and_nothing_changes(
    service: httpx.AsyncClient, database: Database, content: dict[str, Any], status: int, named: str
) -> None:
    await store_both(database)
    await store_batch(database.url, 1, batch_id=458, ref_token="third", agent_id=9)
    arrival_id = await receive(service)
    answer = await assign(service, arrival_id, **content)
    assert (answer.status_code, named in answer.json()["error"]["message"]) == (status, True), answer.text
    assert await find_arrival(service) == arrival_id
    assert (await service.get("/v1/audit")).json()["data"] == []


async def test_a_call_in_no_batch_counts_outside_batches_with_all_its_events(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    arrival_id = await receive(service)
    for expected in (True, False):
        answer = await assign(service, arrival_id, kind="inbound")
        assert (answer.status_code, answer.json()["data"]["is_changed"]) == (200, expected)
    await post_webhook(service, ambiguous(event_id="twin"))
    (call,) = (await service.get("/v1/calls")).json()["data"]
    assert (call["kind"], call["phone"], call["status"]) == ("inbound", "+918000000000", "completed")
    assert (await place_of(service, "twin"))[0] == "other_call"
    for content in ({"kind": "single"}, {"batch_id": OTHER, "recipient": 1}):
        refused = await assign(service, arrival_id, **content)
        assert (refused.status_code, "has its place already" in refused.json()["error"]["message"]) == (409, True)
    assert await reattribute(database) == 0
    await assert_sound(database)


async def test_when_its_recipient_is_withdrawn_it_waits_and_can_be_assigned_again(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    arrival_id = await receive(service)
    await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE batches SET withdrawn_count = 1 WHERE batch_id = $1", OTHER)
        await connection.execute(
            "SELECT withdraw_recipients(array_agg(batch_key), '{1}') FROM batches WHERE batch_id = $1", OTHER
        )
    assert (await place_of(service))[0] == "unattributed"
    assert (await assign(service, arrival_id, batch_id=OTHER, recipient=1)).status_code == 404
    assert (await assign(service, arrival_id, batch_id=BATCH_ID, recipient=1)).status_code == 200
    assert await place_of(service) == ("applied", BATCH_ID, 1, "manual")
    await assert_sound(database)


async def test_a_rule_that_comes_later_leaves_it_where_a_person_put_it(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_both(database)
    async with start_service() as service:
        await assign(service, await receive(service), batch_id=OTHER, recipient=1)
    rules = tmp_path / "targets.toml"
    rules.write_text(f'[agents.{AGENT_ID}]\nkind = "single"\n')
    async with start_service(OUTCOMES_TARGETS_FILE=str(rules)) as service:
        query = "SELECT count(*) FROM rule_sweeps WHERE ended_at IS NOT NULL"
        await eventually(lambda: database.pool.fetchval(query), lambda count: count == 1)
        assert await place_of(service) == ("applied", OTHER, 1, "manual")
    await assert_sound(database)


async def test_of_people_who_decide_at_once_only_the_first_succeeds(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    arrival_id = await receive(service)
    answers = await asyncio.gather(
        assign(service, arrival_id, batch_id=OTHER, recipient=1),
        assign(service, arrival_id, batch_id=BATCH_ID, recipient=1),
        assign(service, arrival_id, kind="single"),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    await assert_sound(database)


async def test_an_event_is_shown_with_the_recipients_that_it_may_belong_to(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_both(database)
    await store_batch(database.url, 1, batch_id=458, ref_token="later", prepared_at=BEGAN + timedelta(days=2))
    await store_batch(database.url, 1, batch_id=459, ref_token="foreign", agent_id=9)
    arrival_id = await receive(service)
    event = (await service.get(f"/v1/unattributed/{arrival_id}")).json()["data"]
    assert (event["event_id"], event["status"], event["reason"]) == (AMBIGUOUS, "completed", "ambiguous")
    assert [(row["batch_id"], row["recipient"], row["is_in_time"]) for row in event["candidates"]] == [
        (OTHER, 1, True),
        (BATCH_ID, 1, True),
        (458, 1, False),
    ]
    await assign(service, arrival_id, batch_id=OTHER, recipient=1)
    for gone in (arrival_id, 999, "x"):
        assert (await service.get(f"/v1/unattributed/{gone}")).status_code == 404
    assert (await assign(service, 999, kind="single")).status_code == 404
