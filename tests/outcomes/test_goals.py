"""Goals of agents: set with history, counted by deltas, counted again after a change, and the measure of promotions."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from service.outcomes.goals import GoalCounter, Rule, set_goal
from service.outcomes.summary import read_counts, summarise
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.eventually import eventually
from tests.factories import AGENT_ID, BATCH_ID, decode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.recount import find_differences, verify
from tests.webhooks.ingesting import ingest

GOAL = f"/v1/agents/{AGENT_ID}/goal"
PAYS: Rule = {"intent": ["promise_to_pay", "already_paid"]}
RECIPIENTS = 12
INTENTS = ("promise_to_pay", "Already_Paid ", "refused", "wrong_number")


async def put(service: httpx.AsyncClient, results: Any, path: str = GOAL) -> httpx.Response:
    return await service.put(path, json={"results": results})


async def fill(database: Database, batch_id: int = BATCH_ID, ref_token: str = "feedc0de", **fields: Any) -> None:
    """Recipients 1 to 8 completed a call, each intent twice; the others have not been called."""
    await store_batch(database.url, RECIPIENTS, batch_id=batch_id, ref_token=ref_token, **fields)
    calls = [
        make_payload(
            recipient=n, results={"intent": INTENTS[n % 4], "verified": n % 8 < 4}, ref_token=ref_token, **fields
        )
        for n in range(1, 9)
    ]
    await ingest(database, *decode(*calls))


async def read(service: httpx.AsyncClient, batch_id: int = BATCH_ID, **params: Any) -> dict[str, Any]:
    answer = await service.get(f"/v1/batch-calls/{batch_id}/outcomes", params=params)
    data: dict[str, Any] = answer.json()["data"]
    return data


async def read_when_counted(service: httpx.AsyncClient, batch_id: int = BATCH_ID) -> dict[str, Any]:
    data: dict[str, Any] = await eventually(
        lambda: read(service, batch_id), lambda shown: shown["goal"] is not None and shown["goal"]["is_counted"]
    )
    return data


async def test_a_goal_is_set_replaced_and_removed_with_its_history(service: httpx.AsyncClient) -> None:
    assert (await service.get(GOAL)).status_code == 404
    first = (await put(service, PAYS)).json()["data"]
    assert (first["agent_id"], first["results"], first["actor"]) == (AGENT_ID, PAYS, "setting")
    assert (await put(service, PAYS)).json()["data"]["history"] == first["history"], "the same goal changes nothing"
    await put(service, {"intent": ["promise_to_pay"], "verified": [True]})
    gone = (await service.delete(GOAL)).json()["data"]
    assert gone["results"] is None
    assert [version["results"] for version in gone["history"]] == [
        None, {"intent": ["promise_to_pay"], "verified": [True]}, PAYS,
    ]  # fmt: skip
    times = [version["set_at"] for version in gone["history"]]
    assert times == sorted(times, reverse=True)
    assert (await service.get(GOAL)).json()["data"] == gone
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [(line["subject"], line["outcome"]) for line in lines if line["action"] == "goal"] == [
        ("agent 123", "removed"), ("agent 123", "set"), ("agent 123", "set"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"results": {}}, "results"),
        ({"results": {"intent": []}}, "results.intent"),
        ({"results": {"intent": ["x" * 81]}}, "results.intent"),
        ({"results": {"": ["x"]}}, "results"),
        ({"results": {"intent": [" "]}}, "results.intent"),
        ({"results": {f"r{n}": ["x"] for n in range(11)}}, "results"),
        ({"results": {"intent": "promise_to_pay"}}, "The body"),
        ({"intent": ["promise_to_pay"]}, "The body"),
    ],
)
async def test_a_goal_that_cannot_be_used_is_refused_with_what_is_wrong(
    service: httpx.AsyncClient, body: Any, named: str
) -> None:
    answer = await service.put(GOAL, json=body)
    assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, named)
    assert (await service.get(GOAL)).status_code == 404


async def test_recipients_that_meet_the_goal_are_counted_by_deltas(
    service: httpx.AsyncClient, database: Database
) -> None:
    await put(service, PAYS)
    await fill(database)
    shown = await read(service)
    assert shown["goal"] == {"results": PAYS, "set_at": shown["goal"]["set_at"], "is_counted": True, "met": 4}
    assert shown["rates"]["goal_rate"] == {"percent": 33.3, "count": 4, "of": 12, "denominator": "recipients.total"}
    assert shown["rates"]["success_rate"]["percent"] == 66.7
    # A later attempt takes a recipient's success back, another brings one, and an erasure takes one away.
    await post_webhook(service, make_payload(recipient=4, attempt=2, results={"intent": "refused"}))
    await post_webhook(service, make_payload(recipient=2, attempt=2, results={"intent": ["other", "ALREADY_PAID"]}))
    assert (await read(service))["goal"]["met"] == 4
    await service.post("/v1/erasures", json={"phone": phone_of(2)})
    assert (await read(service))["goal"]["met"] == 3
    assert await verify(database) == []


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ({"intent": ["PROMISE_to_pay"]}, 2),
        ({"verified": [True]}, 4),
        ({"intent": ["promise_to_pay", "refused"], "verified": [True]}, 2),
        ({"intent": ["promise_to_pay"], "absent": ["x"]}, 0),
        ({"absent": ["null"]}, 0),
    ],
)
async def test_all_results_of_a_rule_must_match_each_by_any_value(
    service: httpx.AsyncClient, database: Database, rule: dict[str, Any], met: int
) -> None:
    await put(service, rule)
    await fill(database)
    assert (await read(service))["goal"]["met"] == met


async def test_a_batch_of_an_agent_without_a_goal_has_no_goal_rate(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    shown = await read(service)
    assert shown["goal"] is None
    assert shown["rates"]["goal_rate"] == {"percent": None, "count": None, "of": 12, "denominator": "recipients.total"}
    await put(service, PAYS)
    assert (await read_when_counted(service))["goal"]["met"] == 4
    await service.delete(GOAL)
    assert (await read(service))["goal"] is None


async def test_after_a_change_a_batch_shows_no_figure_until_it_is_counted_again(database: Database) -> None:
    await set_goal(database, AGENT_ID, PAYS)
    await fill(database)
    await set_goal(database, AGENT_ID, {"intent": ["refused"]})
    (goal_id,) = [row["goal_id"] async for row in database.queries.list_uncounted_goals(database.pool)]
    key = await database.pool.fetchval("SELECT batch_key FROM batches")
    seen = []
    for attempt in range(2, 9):
        counts = await read_counts(database, BATCH_ID, "UTC")
        assert counts is not None
        shown = summarise(counts)
        seen.append(shown["goal"]["met"])
        assert (shown["goal"]["results"], shown["goal"]["is_counted"]) == (
            {"intent": ["refused"]},
            seen[-1] is not None,
        )
        assert shown["rates"]["goal_rate"]["count"] == seen[-1]
        assert await verify(database) == []
        if seen[-1] is not None:
            break
        # One recipient that is counted already, and one that is not: each meets the new goal from now on, or no more.
        intent = "promise_to_pay" if attempt % 2 else "refused"
        calls = [make_payload(recipient=n, attempt=attempt, results={"intent": intent}) for n in (1, 8)]
        await ingest(database, *decode(*calls))
        await database.queries.count_goal_step(database.pool, goal_id=goal_id, batch_key=key, recipients=5)
    assert seen == [None, None, None, 2 + 2]
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


async def test_a_change_is_counted_by_the_service_for_every_batch_of_the_agent_and_no_other(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    await fill(database, 457, "second")
    await fill(database, 458, "another", agent_id=7)
    await put(service, PAYS)
    await put(service, {"intent": ["wrong_number"]})
    for batch_id in (BATCH_ID, 457):
        assert (await read_when_counted(service, batch_id))["goal"]["met"] == 2
    assert (await eventually(lambda: service.get(GOAL), lambda answer: answer.json()["data"]["is_counted"])).is_success
    assert (await read(service, 458))["goal"] is None
    assert await database.pool.fetchval("SELECT count(*) FROM goal_counts") == 2


async def test_a_count_that_is_killed_at_any_point_is_finished_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.outcomes.goals.STEP_RECIPIENTS", 2)
    await fill(database)
    await fill(database, 457, "second")
    await set_goal(database, AGENT_ID, PAYS)
    for passes in range(1, 25):  # each is cancelled a little later than the one before
        counting = asyncio.ensure_future(GoalCounter(database).finish())
        for _ in range(passes * 2):
            await asyncio.sleep(0)
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        assert await verify(database) == []
    await GoalCounter(database).finish()
    rows = await database.pool.fetch("SELECT recipients, counted_to FROM goal_counts")
    assert [tuple(row) for row in rows] == [(4, 2**31 - 1)] * 2
    assert [row async for row in database.queries.list_uncounted_goals(database.pool)] == []


async def test_figures_as_of_an_earlier_time_are_by_the_goal_of_that_time(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database)
    before = (await read(service))["as_of"]
    await put(service, PAYS)
    between = (await read_when_counted(service))["as_of"]
    await put(service, {"intent": ["refused"]})
    assert (await read_when_counted(service))["goal"]["met"] == 2
    assert (await read(service, as_of=before))["goal"] is None
    past = await read(service, as_of=between)
    assert (past["goal"]["results"], past["goal"]["met"], past["rates"]["goal_rate"]["count"]) == (PAYS, 4, 4)


async def test_a_change_of_the_goal_changes_the_etag(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database)
    path = f"/v1/batch-calls/{BATCH_ID}/outcomes"
    etags = [(await service.get(path)).headers["etag"]]
    await put(service, PAYS)
    etags.append((await service.get(path)).headers["etag"])
    await read_when_counted(service)
    etags.append((await service.get(path)).headers["etag"])
    assert len(set(etags)) == 3


async def test_groups_have_the_goal_rate_of_the_batches_whose_agent_has_a_goal(
    service: httpx.AsyncClient, database: Database
) -> None:
    await put(service, PAYS)
    await fill(database)
    await fill(database, 457, "second")
    await fill(database, 458, "another", agent_id=7)

    async def list_groups(group_by: str) -> list[dict[str, Any]]:
        params = {"group_by": group_by, "from": "2026-03-01", "to": "2026-03-31"}
        data: list[dict[str, Any]] = (await service.get("/v1/outcomes", params=params)).json()["data"]
        return data

    (group,) = await list_groups("day")
    assert group["goal"] == {"batches": 2, "recipients": 24, "batches_being_counted": 0}
    assert group["rates"]["goal_rate"] == {"percent": 33.3, "count": 8, "of": 24, "denominator": "goal.recipients"}
    other, ours = await list_groups("agent")
    assert (ours["agent_id"], ours["rates"]["goal_rate"]["count"]) == (AGENT_ID, 8)
    assert (other["goal"]["batches"], other["rates"]["goal_rate"]["count"]) == (0, None)
    await database.pool.execute("UPDATE goal_counts SET counted_to = 3 WHERE batch_key = 1")
    (group,) = await list_groups("day")
    assert (group["goal"]["batches_being_counted"], group["rates"]["goal_rate"]["percent"]) == (1, None)


async def test_a_wrong_count_is_found_and_repaired(database: Database) -> None:
    await set_goal(database, AGENT_ID, PAYS)
    await fill(database)
    await database.pool.execute("UPDATE goal_counts SET recipients = recipients + 3")
    assert await verify(database) == ["goal_counts"]
    assert [batch.counters async for batch in Rebuilder(database).rebuild()] == [1, 0]
    assert await database.pool.fetchval("SELECT recipients FROM goal_counts") == 4
    assert await verify(database) == []


async def test_bi_and_exports_have_the_goal_rate_and_nothing_while_it_is_counted(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database, 457, "second", agent_id=7)
    await put(service, PAYS)
    await fill(database)
    await store_batch(database.url, 5, batch_id=458, ref_token="quiet")

    async def read_both() -> list[list[Any]]:
        rows = await database.pool.fetch("SELECT * FROM bi.batch_outcomes ORDER BY batch_id")
        exported = (await service.get("/v1/exports/batches.ndjson")).text.splitlines()
        return [
            [
                (row["recipients_goal_met"], row["goal_rate_percent"] and round(row["goal_rate_percent"], 4))
                for row in rows
            ],
            [(row["goal_met"], row["goal_rate"]) for row in map(json.loads, exported)],
        ]

    assert await read_both() == [[(4, 33.3333), (None, None), (0, 0.0)]] * 2
    await database.pool.execute("UPDATE goal_counts SET counted_to = 3")
    assert await read_both() == [[(None, None), (None, None), (0, 0.0)]] * 2
