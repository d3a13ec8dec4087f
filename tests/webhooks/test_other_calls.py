"""Single and inbound calls are counted and listed on their own, by the rules of the targets file, and alarm nobody."""

import itertools
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import RunningSandbox, sample_contacts
from service.sandbox.calls import name_caller
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.conftest import StartService
from tests.eventually import eventually
from tests.exposition import read_alarms, read_metric
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.healing import play, read_outcomes
from tests.guarantees.recount import find_differences, verify
from tests.provider import KEY, connect_provider
from tests.webhooks.ingesting import ingest

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}
OWN = name_caller(AGENT_ID, 0)
RULES = f"""
[agents.{AGENT_ID}]
numbers = ["{OWN}"]
single_when = {{ source = ["app"] }}
"""
SINGLE = {"source": "app"}


def write_rules(tmp_path: Path, rules: str = RULES) -> dict[str, Any]:
    path = tmp_path / "targets.toml"
    path.write_text(rules)
    return {"OUTCOMES_TARGETS_FILE": str(path)}


def connect(
    start_service: StartService, tmp_path: Path, *, rules: str = RULES, **more: Any
) -> AbstractAsyncContextManager[tuple[httpx.AsyncClient, RunningSandbox]]:
    return connect_provider(start_service, **{**ON_DEMAND, **write_rules(tmp_path, rules), **more})


def make_inbound(**more: Any) -> dict[str, Any]:
    """The webhook of a call by recipient 1 of ``store_batch`` to the agent."""
    payload = make_payload(recipient=None, phone=OWN, parameters={}, **more)
    payload["data"]["call"]["from_phone"] = phone_of(1)
    return payload


async def list_calls(service: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    """All calls outside batches, read two at a time."""
    calls, after = [], None
    while True:
        following: dict[str, Any] = {"after": after} if after else {}
        page = (await service.get("/v1/calls", params={"limit": 2, **parameters, **following})).json()
        calls += page["data"]
        after = page["next"]
        assert page["has_more"] == (after is not None)
        if after is None:
            return calls


async def count_calls(service: httpx.AsyncClient, **parameters: Any) -> dict[tuple[Any, ...], int]:
    answer = (await service.get("/v1/calls/counts", params=parameters)).json()
    assert answer["total"] == sum(each["calls"] for each in answer["data"])
    return {(each["agent_id"], each["kind"], each["status"]): each["calls"] for each in answer["data"]}


async def assert_sound(database: Database) -> None:
    """Counters equal a recount, of batches and of other calls."""
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
    assert [row async for row in database.queries.list_other_call_errors(database.pool)] == []


async def test_single_and_inbound_calls_of_a_dashboard_batchs_people_are_not_guessed_into_it(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    """The true owner of each call is known to the sandbox alone."""
    options = {"other_share": 0.5}
    async with connect(start_service, tmp_path, plays=True, options=options) as (service, sandbox):
        playing = sandbox.sandbox
        async with httpx.AsyncClient(
            base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
        ) as provider:
            files = {"file": ("contacts.csv", sample_contacts(40, seed=5), "text/csv")}
            made = await provider.post("/v1/batch-call", data={"agent_id": "123", "name": "D"}, files=files)
            batch_id = made.json()["data"]["id"]
            await service.get(f"/v1/batch-calls/{batch_id}")  # the service learns of it
            await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
            await playing.wait_until_done(batch_id)
            for call in playing.other_calls.calls:
                await playing._wait(call.settled)
            truth = (await provider.get("/sandbox/other-calls")).json()
        assert set(truth["by_kind"]) == {"single", "inbound"}
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert answer.json()["data"]["verdict"] == "complete"
        assert await read_alarms(service) == {}
        assert (await service.get("/v1/unattributed")).json()["data"] == []
        calls = await list_calls(service)
        assert sorted((call["kind"], call["phone"], call["status"]) for call in calls) == sorted(
            (call["kind"], call["phone"], call["state"]) for call in truth["data"]
        )
        assert [call["called_at"] for call in calls] == sorted(call["called_at"] for call in calls)
        await assert_sound(database)


async def test_known_results_of_a_single_call_are_not_lost_to_later_ones_that_say_nothing(
    start_service: StartService, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    said = {"intent": "promise_to_pay"}
    empty: list[Any] = [{}, None, [], "", {"intent": None}, {"intent": " ", "more": [{}]}]
    async with start_service(**write_rules(tmp_path)) as service:
        for n, nothing in enumerate(empty):
            for order in itertools.permutations(((said, 0), (nothing, 1), ({"intent": "refused"}, -1))):
                name = f"{n}-{order[0][1]}{order[1][1]}"
                with subtests.test(name, nothing=nothing):
                    for results, minute in order:
                        payload = make_payload(
                            recipient=None, phone=phone_of(n), parameters=SINGLE, results=results, attempt=1,
                            conversation_id=name, event_id=f"{name}{minute}",
                        )  # fmt: skip
                        payload["timestamp"] = (BEGAN + timedelta(minutes=5 + minute)).isoformat()
                        assert (await post_webhook(service, payload)).status_code == 204
                    shown = [call for call in await list_calls(service) if call["conversation_id"] == name]
                    assert [call["results"] for call in shown] == [said]


async def test_calls_by_rule_are_listed_counted_and_alarm_nobody(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_batch(database.url, 3)
    async with start_service(**write_rules(tmp_path)) as service:
        single = make_payload(recipient=None, phone=phone_of(1), parameters=SINGLE, began=BEGAN, event_id="s")
        inbound = make_inbound(status="completed", began=BEGAN + timedelta(days=1), event_id="i")
        theirs = make_payload(recipient=2, parameters=SINGLE, event_id="b")
        unknown = make_payload(recipient=None, phone="+919811111111", parameters={"a": "b"}, event_id="u")
        for payload in (single, inbound, theirs, unknown):
            assert (await post_webhook(service, payload)).status_code == 204
        calls = await list_calls(service)
        assert [(call["event_id"], call["kind"], call["phone"], call["parameters"]) for call in calls] == [
            ("s", "single", phone_of(1), SINGLE),
            ("i", "inbound", phone_of(1), None),
        ]
        assert calls[0]["results"] == {"intent": "promise_to_pay"}
        assert [call["event_id"] for call in await list_calls(service, kind="inbound")] == ["i"]
        assert [call["event_id"] for call in await list_calls(service, to="2026-03-16", agent_id=AGENT_ID)] == ["s"]
        assert [call["event_id"] for call in await list_calls(service, **{"from": "2026-03-17"})] == ["i"]
        assert await list_calls(service, agent_id=7) == []
        assert await count_calls(service) == {
            (AGENT_ID, "single", "completed"): 1,
            (AGENT_ID, "inbound", "completed"): 1,
        }
        assert await count_calls(service, to="2026-03-16", agent_id=AGENT_ID) == {(AGENT_ID, "single", "completed"): 1}
        for event_id, kind in (("s", "single"), ("i", "inbound")):
            event = (await service.get(f"/v1/events/{event_id}")).json()["data"]
            assert (event["disposition"], event["kind"], event["status"]) == ("other_call", kind, "completed")
        assert (await service.get("/v1/events/b")).json()["data"]["disposition"] == "applied"
        assert (await read_alarms(service))["unattributed_events"]["count"] == 1
        assert await read_metric(service, "outcomes_events_total", disposition="other_call") == 2
        await assert_sound(database)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/v1/calls?after=x", "after: takes the `next` of a page"),
        ("/v1/calls?after=999999999999999999-1", "after: takes the `next` of a page"),
        ("/v1/calls?kind=batch", "kind: takes one of single, inbound"),
        ("/v1/calls/counts?from=2026-03-16T10:30:00Z", "from: takes a day here"),
    ],
)
async def test_wrong_parameters_are_refused_by_name(service: httpx.AsyncClient, path: str, problem: str) -> None:
    answer = await service.get(path)
    assert (answer.status_code, answer.json()["error"]["message"][: len(problem)]) == (400, problem)


async def test_the_rules_in_force_are_shown(start_service: StartService, tmp_path: Path) -> None:
    rules = RULES + '[targets.reception]\nsecrets = ["0123456789abcdef"]\nkind = "inbound"\n'
    async with start_service(**write_rules(tmp_path, rules)) as service:
        assert (await service.get("/v1/calls/rules")).json()["data"] == {
            "targets": {"reception": "inbound"},
            "agents": [{"agent_id": AGENT_ID, "kind": None, "numbers": [OWN], "single_when": {"source": ["app"]}}],
        }


async def test_several_events_of_one_call_are_one_call(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    """Two targets of the agent may report each call, with an event id each."""
    first = make_payload(recipient=None, phone=phone_of(1), parameters=SINGLE, status="busy", conversation_id="c")
    second = first | {"event_id": "second"}
    later = make_payload(
        recipient=None, phone=phone_of(1), parameters=SINGLE, conversation_id="c", began=BEGAN + timedelta(hours=9)
    )
    async with start_service(**write_rules(tmp_path)) as service:
        for payload in (later, second, first, second):
            assert (await post_webhook(service, payload)).status_code == 204
        assert [call["status"] for call in await list_calls(service)] == ["busy", "completed"]
        assert sum((await count_calls(service)).values()) == 2
        await assert_sound(database)


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_a_conversation_of_a_call_by_rule_goes_with_it_whichever_comes_first(
    start_service: StartService, database: Database, tmp_path: Path, is_reversed: bool
) -> None:
    """A conversation has no parameters, so it fits any recipient who is due."""
    await store_batch(database.url, 1, ref_token=None)
    bare = make_payload(recipient=None, phone=phone_of(1), parameters={}, conversation_id="c", began=BEGAN)
    ruled = make_payload(recipient=None, phone=phone_of(1), parameters=SINGLE, conversation_id="c", began=BEGAN)
    async with start_service(**write_rules(tmp_path)) as service:
        for payload in (ruled, bare) if is_reversed else (bare, ruled):
            assert (await post_webhook(service, payload)).status_code == 204
        assert len(await list_calls(service)) == 1
        assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 0
        for payload in (bare, ruled):
            event = (await service.get(f"/v1/events/{payload['event_id']}")).json()["data"]
            assert (event["disposition"], event["kind"]) == ("other_call", "single")
        await assert_sound(database)


async def test_a_rule_that_is_added_later_moves_what_was_guessed_or_waits(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_batch(database.url, 2, ref_token=None)
    guessed = make_payload(recipient=None, phone=phone_of(1), parameters=SINGLE | {"loan_id": "LN-1"}, event_id="g")
    waiting = make_inbound(event_id="w")
    theirs = make_payload(recipient=None, phone=phone_of(2), parameters={"loan_id": "LN-2"}, event_id="t")
    async with start_service() as service:
        for payload in (guessed, waiting, theirs):
            assert (await post_webhook(service, payload)).status_code == 204
        assert (await service.get("/v1/events/g")).json()["data"]["disposition"] == "applied"
        assert await list_calls(service) == []
    async with start_service(**write_rules(tmp_path)) as service:

        async def is_swept() -> bool:
            return bool(await database.pool.fetchval("SELECT ended_at IS NOT NULL FROM rule_sweeps"))

        await eventually(is_swept)
        assert [(call["event_id"], call["phone"]) for call in await list_calls(service)] == [
            ("g", phone_of(1)), ("w", phone_of(1)),
        ]  # fmt: skip
        assert (await service.get("/v1/events/t")).json()["data"]["disposition"] == "applied"
        assert (await read_outcomes(service, BATCH_ID))["recipients"]["processed"] == 1
        assert "unattributed_events" not in await read_alarms(service)
        await assert_sound(database)


async def test_a_redelivered_event_is_moved_by_a_new_rule(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    waiting = make_inbound()
    async with start_service() as service:
        assert (await post_webhook(service, waiting)).status_code == 204
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, waiting)).status_code == 204
        assert [call["phone"] for call in await list_calls(service)] == [phone_of(1)]
        assert (await service.get("/v1/unattributed")).json()["data"] == []


async def test_an_erased_person_is_gone_from_other_calls_which_still_count(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with start_service(**write_rules(tmp_path)) as service:
        single = make_payload(
            recipient=None, phone=phone_of(1), parameters=SINGLE, status="failed", event_id=f"end-{phone_of(1)}"
        )
        for payload in (single, make_inbound(), make_payload(recipient=None, phone=phone_of(2), parameters=SINGLE)):
            assert (await post_webhook(service, payload)).status_code == 204
        assert (await service.post("/v1/erasures", json={"phone": phone_of(1)})).status_code == 200

        async def is_erased() -> bool:
            return [call["phone"] for call in await list_calls(service)].count(None) == 2

        await eventually(is_erased)
        late = make_inbound()
        assert (await post_webhook(service, late)).status_code == 204
        erased = [call for call in await list_calls(service) if call["phone"] is None]
        assert [(call["parameters"], call["failure_reason"], call["results"]) for call in erased] == [(None,) * 3] * 3
        assert all(call["event_id"].startswith("erased-") for call in erased)
        assert sum((await count_calls(service)).values()) == 4
        assert phone_of(1)[3:] not in str(
            await database.pool.fetch("SELECT convert_from(body, 'UTF8') FROM event_bodies")
        )
        assert not await database.pool.fetchval(
            "SELECT EXISTS (SELECT FROM other_events WHERE conversation_id LIKE 'conversation%' AND phone IS NULL)"
        )
        await assert_sound(database)


async def test_the_phones_of_other_calls_are_forgotten_with_those_of_recipients(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, make_inbound())).status_code == 204
        for rows in (1, 0):
            forgotten = await database.queries.forget_people(database.pool, days=0, rows=10, now=datetime.now(UTC))
            assert forgotten == rows
        assert [call["phone"] for call in await list_calls(service)] == [None]
        assert sum((await count_calls(service)).values()) == 1


async def test_bi_shows_other_calls_masked(database: Database, start_service: StartService, tmp_path: Path) -> None:
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, make_inbound(results={"note": phone_of(3)}))).status_code == 204
    (masked,) = await database.pool.fetch("SELECT * FROM bi.other_calls")
    (full,) = await database.pool.fetch("SELECT * FROM bi_full.other_calls")
    assert (masked["phone"], full["phone"]) == ("+91*******001", phone_of(1))
    assert (masked["kind"], masked["is_connect"]) == ("inbound", True)
    assert "700000" not in str(masked["results"])
    assert "7000000003" in full["results"]


async def test_a_single_calls_webhook_shows_that_the_agents_webhooks_arrive(
    start_service: StartService, tmp_path: Path
) -> None:
    async with connect(start_service, tmp_path, plays=True) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=1.0, recipients=10)
        await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        assert "webhooks_missing" in await read_alarms(service)
        single = make_payload(recipient=None, parameters=SINGLE, began=datetime.now(UTC))
        assert (await post_webhook(service, single)).status_code == 204
        assert "webhooks_missing" not in await read_alarms(service)


async def test_wrong_counters_of_other_calls_are_found_and_rebuilt(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with start_service(**write_rules(tmp_path)) as service:
        assert (await post_webhook(service, make_inbound())).status_code == 204
    assert await verify(database) == []
    await database.pool.execute("UPDATE other_call_counts SET calls = 7")
    await database.pool.execute("INSERT INTO other_call_counts VALUES (5, 'single', '2026-03-16', 'busy', 1)")
    assert await verify(database) == ["other_call_counts", "other_call_counts"]
    assert [tuple(each) async for each in Rebuilder(database).rebuild()] == [(None, 0, 2)]
    assert await verify(database) == []


async def test_the_sandbox_refuses_a_repeated_idempotency_key_and_schedules_calls(
    start_service: StartService, tmp_path: Path
) -> None:
    async with connect(start_service, tmp_path) as (service, sandbox):
        async with httpx.AsyncClient(
            base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
        ) as provider:
            call = {"agent_id": 123, "to_phone": "+919876543210", "call_parameters": SINGLE, "idempotency_key": "k"}
            assert (await provider.post("/v1/call", json=call)).json()["data"]["status"] == "initiated"
            assert (await provider.post("/v1/call", json=call)).json()["error"]["type"] == "duplicate_request"
            later = call | {"idempotency_key": "l", "scheduled_for": "2026-03-17T10:30:00Z"}
            assert (await provider.post("/v1/call", json=later)).json()["data"]["status"] == "scheduled"
            assert (await provider.post("/v1/call", json={"agent_id": 1})).status_code == 400
            inbound = {"agent_id": 123, "from_phone": "+919876543211"}
            assert (await provider.post("/sandbox/inbound-calls", json=inbound)).status_code == 200
        await sandbox.sandbox.advance(3600)
        assert len(await list_calls(service)) == 2
        await sandbox.sandbox.advance(24 * 3600)
        assert [(call["kind"], call["phone"]) for call in await list_calls(service, kind="single")] == [
            ("single", "+919876543210"), ("single", "+919876543210"),
        ]  # fmt: skip


async def test_the_events_of_a_call_by_rule_come_to_the_same_in_every_order(database: Database) -> None:
    await store_batch(database.url, 1, ref_token=None)
    began, later = BEGAN + timedelta(hours=1), BEGAN + timedelta(hours=5)
    payloads = [
        make_payload(
            recipient=None, phone=phone_of(1), parameters=SINGLE, status="busy", event_id="ruled", began=began
        ),
        make_payload(recipient=None, phone=phone_of(1), parameters={}, status="failed", event_id="bare", began=began),
        make_payload(recipient=None, phone=phone_of(1), parameters=SINGLE, event_id="other call", began=later),
        make_payload(recipient=None, phone=phone_of(1), parameters={"loan_id": "LN-1"}, event_id="theirs"),
    ]
    seen = set()
    for number, order in enumerate(itertools.permutations(decode(*payloads))):
        for event in order:
            kind = "single" if event.event_id in {"ruled", "other call"} else None
            is_theirs = event.event_id == "theirs"
            await ingest(
                database,
                event._replace(
                    event_id=f"{event.event_id} {number}",
                    conversation_id=f"{'theirs' if is_theirs else 'c'} {number}",
                    kind=kind,
                ),
            )
        rows = await database.pool.fetch(
            "SELECT split_part(event_id, ' ', 1) AS name, kind, is_ruled, is_counted FROM other_events "
            "WHERE conversation_id = $1 ORDER BY 1", f"c {number}",
        )  # fmt: skip
        places = await database.pool.fetch(
            "SELECT split_part(event_id, ' ', 1) FROM facts WHERE event_id LIKE $1", f"% {number}"
        )
        seen.add((tuple(map(tuple, rows)), tuple(map(tuple, places))))
    calls = (("bare", "single", False, True), ("other", "single", True, True), ("ruled", "single", True, False))
    assert seen == {(calls, (("theirs",),))}
    await assert_sound(database)
