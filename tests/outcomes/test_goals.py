"""Goals of agents: set with history, counted by deltas, counted again after a change, and the measure of promotions."""

import asyncio
import csv
import io
import json
from contextlib import suppress
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from service.outcomes.goals import GoalCounter, Rule, Subject, set_goal
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
    assert shown["goal"] == {"results": PAYS, "set_at": shown["goal"]["set_at"], "is_counted": True, "met": 4,
                             "note": None}  # fmt: skip
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
    await set_goal(database, Subject(AGENT_ID), PAYS)
    await fill(database)
    await set_goal(database, Subject(AGENT_ID), {"intent": ["refused"]})
    assert len([row async for row in database.queries.list_uncounted_goals(database.pool)]) == 1
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
        await database.queries.count_goal_step(database.pool, batch_key=key, recipients=5)
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
    await set_goal(database, Subject(AGENT_ID), PAYS)
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
    await set_goal(database, Subject(AGENT_ID), PAYS)
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


ROWS = {1: True, 3: True, 2: False, 9: False, 10: None, 11: None}
"""Recipients of ``fill_rows``: whether each meets the goal; null where results or attempts are not known."""


async def fill_rows(database: Database) -> None:
    """1 and 3 pay, 2 refuses, 9 is not reached, the results of 10 are not known, 11 and 12 are not called."""
    await store_batch(database.url, RECIPIENTS)
    said: dict[int, Any] = {
        1: {"intent": "promise_to_pay"},
        2: {"intent": "refused"},
        3: {"intent": " ALREADY_PAID"},
        10: {},
    }
    calls = [make_payload(recipient=n, results=results) for n, results in said.items()]
    await ingest(database, *decode(*calls, make_payload(recipient=9, status="busy", final=False)))


async def test_every_reader_sees_whether_a_recipient_meets_the_goal_and_they_agree_with_the_count(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill_rows(database)
    path = f"/v1/batch-calls/{BATCH_ID}/recipients"

    async def read_everywhere() -> list[dict[int, bool | None]]:
        listed = (await service.get(path)).json()["data"]
        single = [(await service.get(f"{path}/{n}")).json()["data"] for n in range(1, RECIPIENTS + 1)]
        past = (await service.get(path, params={"as_of": (await read(service))["as_of"]})).json()["data"]
        exported = [json.loads(line) for line in (await service.get(f"{path}.ndjson")).text.splitlines()]
        table = pq.read_table(io.BytesIO((await service.get(f"{path}.parquet")).content)).to_pylist()
        views = [
            await database.pool.fetch(f"SELECT recipient, goal_met FROM {schema}.recipient_outcomes")
            for schema in ("bi", "bi_full")
        ]
        feed = (await service.get("/v1/feed")).json()["data"]
        seen = [{row["recipient"]: row["goal_met"] for row in rows} for rows in (listed, single, past, exported, table)]
        seen += [{row["recipient"]: row["goal_met"] for row in rows} for rows in views]
        return [*seen, {**seen[0], **{row["recipient"]: row["goal_met"] for row in feed}}]

    assert await read_everywhere() == [dict.fromkeys(range(1, RECIPIENTS + 1))] * 8, "no goal"
    await put(service, PAYS)
    shown = await read_when_counted(service)
    for seen in await read_everywhere():
        assert {n: seen[n] for n in ROWS} == ROWS
        assert sum(met is True for met in seen.values()) == shown["goal"]["met"] == 2
    rows = csv.DictReader(io.StringIO((await service.get(f"{path}.csv")).text))
    assert [row["goal_met"] for row in rows][:3] == ["true", "false", "true"]
    await put(service, {"intent": ["refused"]})
    assert [seen[2] for seen in await read_everywhere()] == [True] * 8


async def test_a_changed_goal_shows_at_the_next_reading_and_repeats_no_entry_of_the_feed(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill_rows(database)
    end = (await service.get("/v1/feed")).json()["next"]
    await put(service, PAYS)
    await read_when_counted(service)
    assert (await service.get("/v1/feed", params={"after": end})).json()["data"] == []
    entries = (await service.get("/v1/feed")).json()["data"]
    assert {entry["recipient"]: entry["goal_met"] for entry in entries} == {n: ROWS[n] for n in (1, 2, 3, 9, 10)}


async def make_campaign(database: Database) -> str:
    """A test batch and its main batch, filled; returns the path of their goal."""
    await fill(database)
    await fill(database, 457, "second")
    await fill(database, 458, "outside")
    key = await database.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = 457")
    await database.pool.execute(
        "UPDATE batches SET campaign_key = $1, campaign_role = CASE WHEN batch_id = 457 THEN 'main' ELSE 'test' END "
        "WHERE batch_id <> 458", key,
    )  # fmt: skip
    return f"/v1/campaigns/{key}/goal"


async def read_met(service: httpx.AsyncClient) -> list[int | None]:
    """What is counted in both batches of the campaign, and in one outside."""
    found = []
    for batch_id in (BATCH_ID, 457, 458):
        goal = (await eventually(lambda: read(service, batch_id), is_counted))["goal"]  # noqa: B023
        found.append(goal and goal["met"])
    return found


def is_counted(shown: dict[str, Any]) -> bool:
    return shown["goal"] is None or shown["goal"]["is_counted"]


async def test_the_goal_of_a_campaign_takes_precedence_in_its_batches_until_it_is_removed(
    service: httpx.AsyncClient, database: Database
) -> None:
    path = await make_campaign(database)
    assert (await service.get(path)).status_code == 404
    assert (await put(service, {"intent": ["refused"], "verified": [True]}, path)).status_code == 200
    assert await read_met(service) == [1, 1, None]
    before = (await read(service))["as_of"]
    await put(service, PAYS)
    assert await read_met(service) == [1, 1, 4], "the agent's goal is for the other batches"
    await put(service, {"intent": ["wrong_number"]}, path)
    assert await read_met(service) == [2, 2, 4]
    rows = (await service.get("/v1/batch-calls/457/recipients")).json()["data"]
    assert sum(row["goal_met"] is True for row in rows) == 2
    assert await verify(database) == []
    gone = (await service.delete(path)).json()["data"]
    assert (gone["campaign_id"], gone["results"], len(gone["history"])) == (int(path.split("/")[3]), None, 3)
    assert await read_met(service) == [4, 4, 4]
    assert (await read(service, as_of=before))["goal"]["met"] == 1
    await service.delete(GOAL)
    assert await read_met(service) == [None] * 3
    assert await verify(database) == []
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [line["subject"].split()[0] for line in lines if line["action"] == "goal"] == [
        "agent", "campaign", "campaign", "agent", "campaign",
    ]  # fmt: skip


async def test_a_batch_that_joins_a_campaign_later_is_counted_by_its_goal_from_its_first_call(
    service: httpx.AsyncClient, database: Database
) -> None:
    await put(service, PAYS)
    path = await make_campaign(database)
    key = int(path.split("/")[3])
    await put(service, {"intent": ["refused"]}, path)
    await store_batch(database.url, RECIPIENTS, batch_id=459, ref_token="third")
    await database.pool.execute(
        "UPDATE batches SET campaign_key = $1, campaign_role = 'main' WHERE batch_id = 459", key
    )
    await post_webhook(service, make_payload(recipient=1, ref_token="third", results={"intent": "refused"}))
    assert (await read(service, 459))["goal"]["met"] == 1


async def test_the_goal_of_an_unknown_campaign_is_not_found(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database)
    for answer in (await put(service, PAYS, "/v1/campaigns/1/goal"), await service.delete("/v1/campaigns/7/goal")):
        assert (answer.status_code, "campaign" in answer.json()["error"]["message"]) == (404, True)
