"""At one instant, every reader gets the same verdict."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.formant.client import FormantClient
from service.formant.conversations import ConversationPage
from service.outcomes.shapes import VERDICTS
from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import Visitor, sign_in
from tests.guarantees.healing import play, read_outcomes
from tests.processes import OUTCOMES, run
from tests.provider import KEY, connect_provider
from tests.spill.test_readers_see_what_waits import SOME

BATCH_ID = 456
PATH = f"/v1/batch-calls/{BATCH_ID}"
BADGE = re.compile(r'class="badge (unverified|open|settling|complete|drifted)"')
DAY = {"from": "2026-03-16", "to": "2026-03-17"}


@pytest.fixture(autouse=True)
def unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of the console show the present, not what others saw within the last second."""
    monkeypatch.setattr("service.console.looks.KEPT_SECONDS", -1.0)


async def get(service: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await service.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def ask_api(service: httpx.AsyncClient) -> dict[str, Any]:
    """The verdict by each operation that shows one."""
    outcomes = await get(service, f"{PATH}/outcomes")
    shown = {
        "one batch": (await get(service, PATH))["verdict"],
        "the list": [batch["verdict"] for batch in await get(service, "/v1/batch-calls")],
        "its filter": [each for each in VERDICTS if await get(service, "/v1/batch-calls", verdict=each)],
        "outcomes": outcomes["verdict"],
        "as of now": (await get(service, f"{PATH}/outcomes", as_of=outcomes["as_of"]))["verdict"],
        "what is being done": (await get(service, f"{PATH}/reconcile"))["verdict"],
        "across": [verdict for group in await get(service, "/v1/outcomes", **DAY) for verdict in group["verdicts"]],
        "the overview": [batch["verdict"] for batch in await get(service, "/v1/batches")],
        "its filter too": [each for each in VERDICTS if await get(service, "/v1/batches", verdict=each)],
    }
    compared = await get(service, "/v1/compare", left=f"batch:{BATCH_ID}", right="period:2020-01-01..2020-01-02")
    shown["compared"] = list(compared["left"]["verdicts"])
    for kind in ("recipients", "attempts"):
        shown[kind] = (await service.get(f"{PATH}/{kind}.csv")).headers["x-outcomes-verdict"]
    exported = (await service.get("/v1/exports/batches.csv")).text
    shown["the export of batches"] = [row["verdict"] for row in csv.DictReader(io.StringIO(exported))]
    return shown


async def ask_bi(database: Database) -> dict[str, Any]:
    """The verdict in each view of ``bi`` that shows one; ``reconciliations`` is the history."""
    views = await database.pool.fetch(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'bi' AND column_name = 'verdict' "
        "AND table_name <> 'reconciliations'"
    )
    assert len(views) > 5
    return {
        f"bi.{name}": verdicts
        for (name,) in views
        if (verdicts := await database.pool.fetchval(f"SELECT array_agg(DISTINCT verdict) FROM bi.{name}"))
    }


async def ask_console(visitor: Visitor) -> dict[str, Any]:
    return {
        path: sorted(set(BADGE.findall(await visitor.read(path))))
        for path in ("/console", f"/console/batches/{BATCH_ID}", f"/console/batches/{BATCH_ID}/live")
    }


async def ask_all(service: httpx.AsyncClient, database: Database, verdict: str) -> None:
    """Asserts that every reader sees this verdict, and that the alarm ``drift`` is on for it alone."""
    shown = await ask_api(service) | await ask_bi(database) | await ask_console(await sign_in(service))
    assert {name: seen for name, seen in shown.items() if seen not in (verdict, [verdict])} == {}
    await database.pool.execute("UPDATE batch_schedules SET verdict_since = verdict_since - interval '2 hours'")
    alarms = {alarm["name"] for alarm in await get(service, "/v1/alarms")}
    assert ("drift" in alarms) == (verdict == "drifted")


async def ask_again(
    service: httpx.AsyncClient, database: Database, sandbox: RunningSandbox, verdict: str, grace_seconds: int = 900
) -> None:
    """Compares on demand, over HTTP and by the command, and asserts that both say this verdict and the same reasons."""
    asked = (await service.post(f"{PATH}/reconcile")).json()["data"]
    assert asked["verdict"] == verdict
    shown = await read_outcomes(service, BATCH_ID)
    assert [reason["code"] for reason in shown["reconciliation"]["reasons"]] == [r["code"] for r in asked["reasons"]]
    settings = {
        "OUTCOMES_DATABASE_URL": database.url, "FORMANT_API_KEY": KEY, "FORMANT_BASE_URL": sandbox.base_url,
        "OUTCOMES_GRACE_SECONDS": str(grace_seconds),
    }  # fmt: skip
    finished = await run(OUTCOMES, "reconcile", str(BATCH_ID), **settings)
    assert f"Batch {BATCH_ID}: {verdict}\n" in finished.output, finished


@asynccontextmanager
async def connect(
    start_service: StartService, grace_seconds: int = 900
) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    settings: dict[str, Any] = {"OUTCOMES_RECONCILE_SECONDS": "0", "OUTCOMES_GRACE_SECONDS": str(grace_seconds)}
    async with connect_provider(start_service, plays=True, **settings) as connected:
        yield connected


@pytest.mark.parametrize(
    ("state", "verdict"),
    [("running", "open"), ("in the grace", "settling"), ("spilled in the grace", "settling"),
     ("complete", "complete"), ("complete and spilled", "settling")],
)  # fmt: skip
async def test_every_reader_sees_the_same(
    start_service: StartService, database: Database, state: str, verdict: str
) -> None:
    async with connect(start_service) as (service, sandbox):
        sandbox.sandbox.faults.hang = 0.3 if state == "running" else 0
        await play(service, sandbox, drop=0, recipients=20)
        await ask_all(service, database, "unverified")
        if state.endswith("in the grace"):
            sandbox.sandbox.find_batch(BATCH_ID).finished["busy"] += 1  # no conversation explains that
        await service.post(f"{PATH}/reconcile")
        if "spilled" in state:
            await database.pool.execute(SOME)
        await ask_all(service, database, verdict)
        await ask_again(service, database, sandbox, verdict)
        await ask_all(service, database, verdict)


async def test_every_reader_sees_drift_and_no_longer_while_events_may_wait(
    start_service: StartService, database: Database
) -> None:
    async with connect(start_service, grace_seconds=0) as (service, sandbox):
        await play(service, sandbox, drop=0, recipients=20)
        sandbox.sandbox.find_batch(BATCH_ID).finished["busy"] += 1
        await service.post(f"{PATH}/reconcile")
        await ask_all(service, database, "drifted")
        await ask_again(service, database, sandbox, "drifted", grace_seconds=0)
        await database.pool.execute(SOME)
        await ask_all(service, database, "settling")
        await ask_again(service, database, sandbox, "settling", grace_seconds=0)


async def test_every_reader_sees_that_a_batch_is_being_healed(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read, reading = asyncio.Event(), asyncio.Event()
    list_conversations = FormantClient.list_conversations

    async def wait_and_list(client: FormantClient, agent_id: int, limit: int, offset: int) -> ConversationPage:
        reading.set()
        await may_read.wait()
        return await list_conversations(client, agent_id, limit, offset)

    monkeypatch.setattr(FormantClient, "list_conversations", wait_and_list)
    monkeypatch.setattr("service.reconciliation.demand.ANSWER_SECONDS", 0.0)
    async with connect(start_service, grace_seconds=0) as (service, sandbox):
        await play(service, sandbox, drop=0.5, recipients=20)
        await service.post(f"{PATH}/reconcile")
        await reading.wait()
        assert (await service.post(f"{PATH}/reconcile")).json()["data"]["verdict"] == "settling"
        await ask_all(service, database, "settling")
        may_read.set()
