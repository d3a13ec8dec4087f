"""Reconciliation over HTTP and from the command line."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.formant.client import FormantClient
from service.formant.conversations import ConversationPage
from service.sandbox import RunningSandbox, sample_contacts
from service.store.database import Database
from service.store.migrations import read_migrations
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import BATCH_ID, make_payload, post_webhook, store_batch
from tests.guarantees.healing import assert_healed, play
from tests.processes import OUTCOMES, run
from tests.provider import KEY, START, connect_provider, upload
from tests.uploads.dashboard import discover, hold_discovery, make_elsewhere

ON_DEMAND: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0"}


async def test_a_batch_that_is_still_called_is_open_and_says_why(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, **ON_DEMAND) as (service, _):
        batch_id = (await upload(service)).json()["data"]["id"]
        before = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        assert before["verdict"] == "unverified"
        assert (await database.pool.fetchval("SELECT verdict_text FROM bi.batches")) == before["verdict_text"]
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        data = answer.json()["data"]
        assert (answer.status_code, data["batch_id"], data["verdict"]) == (200, batch_id, "open")
        text = "2 recipients are in progress"
        assert data["reasons"] == [{"code": "in_progress", "figure": "in_progress_count", "count": 2, "text": text}]
        assert data["verdict_text"] == f"The provider has not finished: {text}."
        assert (await database.pool.fetchval("SELECT verdict_text FROM bi.batches")) == data["verdict_text"]
        outcomes = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        assert outcomes["verdict"] == "open"
        assert outcomes["reconciliation"]["reasons"] == data["reasons"]


async def read_excess(service: httpx.AsyncClient, batch_id: int) -> tuple[str, list[dict[str, Any]]]:
    """The verdict, and by how many more recipients there are calls of than the provider says it has."""
    data = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
    shown = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]["reconciliation"]
    assert shown["reasons"] == data["reasons"]
    return data["verdict"], [reason for reason in data["reasons"] if reason["code"] == "more_recipients_than_total"]


def say_total(sandbox: RunningSandbox, total: int | None) -> None:
    sandbox.sandbox.records.reshape = lambda batch: batch | {"total_recipients": total}


async def test_a_total_that_shrinks_below_those_who_were_called_is_drift_and_says_by_how_many(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND, OUTCOMES_GRACE_SECONDS="0") as (
        service, sandbox,
    ):  # fmt: skip
        batch_id = (await upload(service, sample_contacts(5, seed=1))).json()["data"]["id"]
        await sandbox.sandbox.wait_until_done(batch_id)
        assert await read_excess(service, batch_id) == ("complete", [])
        say_total(sandbox, 3)
        excess = {"code": "more_recipients_than_total", "figure": "total_recipients", "count": 2,
                  "text": "2 more recipients have calls here than the provider says the batch has"}  # fmt: skip
        assert await read_excess(service, batch_id) == ("drifted", [excess])


async def test_strangers_who_fill_a_window_are_more_than_the_total(
    start_service: StartService, database: Database
) -> None:
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True, **ON_DEMAND, OUTCOMES_GRACE_SECONDS="0") as (
        service, sandbox,
    ):  # fmt: skip
        say_total(sandbox, None)  # so that its window takes everyone who is called
        batch_id = await make_elsewhere(sandbox, sample_contacts(5, seed=1))
        await discover(database, sandbox)
        await sandbox.sandbox.wait_until_done(batch_id)
        call = make_payload(recipient=None, phone="+919900000001", began=datetime.fromtimestamp(START, UTC))
        await post_webhook(service, call)
        assert (await read_excess(service, batch_id))[1] == []
        say_total(sandbox, 5)
        excess = {"code": "more_recipients_than_total", "figure": "total_recipients", "count": 1,
                  "text": "1 more recipient has calls here than the provider says the batch has"}  # fmt: skip
        assert await read_excess(service, batch_id) == ("drifted", [excess])


async def test_history_is_paged_newest_first(start_service: StartService) -> None:
    async with connect_provider(start_service, **ON_DEMAND) as (service, sandbox):
        batch_id = (await upload(service)).json()["data"]["id"]
        path = f"/v1/batch-calls/{batch_id}"
        assert (await service.get(f"{path}/reconciliations")).json() == {"data": [], "next": None, "has_more": False}
        await service.post(f"{path}/reconcile")
        sandbox.sandbox.records.batches[batch_id].pending_retry = 1
        await service.post(f"{path}/reconcile")
        first = (await service.get(f"{path}/reconciliations", params={"limit": 1})).json()
        assert (first["has_more"], len(first["data"])) == (True, 1)
        assert [reason["code"] for reason in first["data"][0]["reasons"]][:2] == ["in_progress", "waiting_for_retry"]
        rest = (await service.get(f"{path}/reconciliations", params={"after": first["next"]})).json()
        assert (rest["has_more"], len(rest["data"])) == (False, 1)


async def test_what_cannot_be_reconciled_says_so(start_service: StartService, database_url: str) -> None:
    async with start_service() as service:
        assert (await service.post("/v1/batch-calls/456/reconcile")).status_code == 503
    settings = {"FORMANT_API_KEY": KEY, "FORMANT_BASE_URL": "http://127.0.0.1:1", **ON_DEMAND}
    async with start_service(**settings) as service:
        for method, path in (("POST", "reconcile"), ("GET", "reconciliations")):
            assert (await service.request(method, f"/v1/batch-calls/999/{path}")).status_code == 404
            refused = await service.request(method, f"/v1/batch-calls/456/{path}", headers={"authorization": ""})
            assert refused.status_code == 401
        await store_batch(database_url)
        answer = await service.post(f"/v1/batch-calls/{BATCH_ID}/reconcile")
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "provider_unreachable")


async def test_the_command_heals_and_shows_the_verdict(start_service: StartService, database_url: str) -> None:
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.5
        batch_id = (await upload(service, sample_contacts(30, seed=1))).json()["data"]["id"]
        async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
            await witness.get("/sandbox/wait", params={"batch_id": batch_id})
        settings = {
            "OUTCOMES_DATABASE_URL": database_url, "FORMANT_API_KEY": KEY, "FORMANT_BASE_URL": sandbox.base_url,
        }  # fmt: skip
        finished = await run(OUTCOMES, "reconcile", str(batch_id), **settings)
        assert (finished.status, f"Batch {batch_id}: complete" in finished.output) == (0, True), finished
        assert "healed" in finished.output
        unknown = await run(OUTCOMES, "reconcile", "999", **settings)
        assert (unknown.status, unknown.errors.splitlines()[-1]) == (2, "outcomes: There is no batch 999")
        keyless = await run(OUTCOMES, "reconcile", "1", **{**settings, "FORMANT_API_KEY": ""})
        assert (keyless.status, "FORMANT_API_KEY" in keyless.errors) == (2, True)


EARLIER: dict[str, list[dict[str, Any]]] = {
    "reasons": [{"code": "not_told", "figure": "busy_count"}],
    "differences": [{"figure": "busy_count", "ours": 1, "theirs": None, "allowed": True, "reason": "not_told"}],
    "inconsistencies": [{"rule": "success_rate_is_success_of_total", "told": 60.0, "expected": 50.0}],
}


async def test_the_upgrade_renames_told_to_reported_in_stored_comparisons(
    service: httpx.AsyncClient, database: Database
) -> None:
    key = await store_batch(database.url)
    await database.pool.execute(
        "INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences, "
        "inconsistencies, calls_spent, healed) VALUES ($1, now(), now(), 'unverified', $2, $3, $4, 1, 0)",
        key, *(json.dumps(part) for part in EARLIER.values()),
    )  # fmt: skip
    (migration,) = (file for file in read_migrations() if file.name == "0029_reported")
    await database.pool.execute(migration.text)
    shown = (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).json()["data"]["reconciliation"]
    assert shown["reasons"] == [EARLIER["reasons"][0] | {"code": "not_reported"}]
    assert shown["differences"] == [EARLIER["differences"][0] | {"reason": "not_reported"}]
    assert shown["inconsistencies"] == [
        {"rule": "success_rate_is_success_of_total", "reported": 60.0, "expected": 50.0}
    ]


async def show_healing(service: httpx.AsyncClient, batch_id: int) -> dict[str, Any]:
    data: dict[str, Any] = (await service.get(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
    return data


async def test_a_batch_that_is_being_healed_shows_its_progress_until_it_is_done(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read, reading = asyncio.Event(), asyncio.Event()
    list_conversations = FormantClient.list_conversations

    async def wait_and_list(client: FormantClient, agent_id: int, limit: int, offset: int) -> ConversationPage:
        if offset:
            reading.set()
            await may_read.wait()
        return await list_conversations(client, agent_id, limit, offset)

    monkeypatch.setattr(FormantClient, "list_conversations", wait_and_list)
    monkeypatch.setattr("service.reconciliation.demand.ANSWER_SECONDS", 0.0)
    async with connect_provider(start_service, plays=True, **ON_DEMAND) as (service, sandbox):
        batch_id = await play(service, sandbox, recipients=100, drop=0.5)
        path = f"/v1/batch-calls/{batch_id}"
        assert (await show_healing(service, batch_id))["state"] == "idle"
        for _ in range(2):  # another request for the same batch starts nothing
            begun = await service.post(f"{path}/reconcile")
            assert (begun.status_code, begun.headers["retry-after"]) == (202, "5")
            await reading.wait()
        shown = (await service.post(f"{path}/reconcile")).json()["data"]
        assert (shown["state"], shown["verdict"], 0 < shown["done"] <= shown["total"]) == ("healing", "settling", True)
        assert datetime.fromisoformat(shown["expected_at"]) > datetime.now(UTC)
        assert "missing outcomes were found so far (final about 2" in shown["verdict_text"]
        healing = shown["reasons"][0]
        assert healing.items() >= {"code": "healing", "done": shown["done"], "total": shown["total"]}.items()
        assert (await show_healing(service, batch_id))["reasons"][0] == healing
        outcomes = (await service.get(f"{path}/outcomes")).json()["data"]
        assert (outcomes["verdict"], outcomes["reconciliation"]["reasons"][0]) == ("settling", healing)
        may_read.set()
        done = await eventually(lambda: show_healing(service, batch_id), lambda shown: shown["state"] == "idle")
        assert (done["verdict"], done["details_outstanding"], done["done"]) == ("complete", 0, None)
        await assert_healed(database, sandbox, batch_id)


async def test_a_batch_that_another_replica_heals_is_answered_with_its_progress(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.reconciliation.reconciler.CLAIM_TRIES", 1)
    async with connect_provider(start_service, **ON_DEMAND) as (service, _):
        batch_id = (await upload(service)).json()["data"]["id"]
        now = datetime.now(UTC)
        lease = await database.queries.claim_batch(
            database.pool, batch_id=batch_id, holder="another", lease_seconds=30.0, now=now
        )
        finals = {"busy_count": 1}  # and nobody is busy here
        healing = {"began_at": now.isoformat(), "healed": 3, "missing": 1, "total": 4, "finals": finals}
        await database.queries.save_healing(
            database.pool, batch_key=lease["batch_key"], fence=lease["fence"], healing=json.dumps(healing),
            leased_until=now,
        )  # fmt: skip
        answer = await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        shown = answer.json()["data"]
        assert (answer.status_code, shown["state"], shown["done"], shown["total"]) == (202, "healing", 3, 4)
        assert (await service.get("/v1/batch-calls/999/reconcile")).status_code == 404
