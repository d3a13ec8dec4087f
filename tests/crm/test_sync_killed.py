"""kill -9 at every step of a page: the next run repeats at most that page, and every recipient reaches the CRM."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from service.crm.mapping import load_mapping
from service.sandbox import RunningSandbox
from tests.conftest import StartService
from tests.crm.hubspot_server import LocalHubSpot
from tests.crm.sync_process import FAILURES, Sync, call, get_acknowledged, until
from tests.eventually import eventually
from tests.factories import store_batch
from tests.processes import Process
from tests.provider import connect_provider, upload

RECIPIENTS, PAGE = 10, 4
WEEK_SECONDS = 7 * 86_400
BLOCK = """
CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
CREATE TRIGGER stop_here BEFORE INSERT OR UPDATE ON feed_consumers FOR EACH ROW EXECUTE FUNCTION stop_here();
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"


@pytest.fixture
async def hubspot() -> AsyncIterator[LocalHubSpot]:
    async with LocalHubSpot().serve() as serving:
        yield serving


def count_sent(hubspot: LocalHubSpot) -> Counter[str]:
    """How often each key was sent."""
    return Counter(each["id"] for request in hubspot.requests for each in request["inputs"])


async def kill(process: Process) -> None:
    process.kill()
    await process.wait()


@pytest.mark.parametrize("taken", [False, True])
async def test_killed_while_the_crm_has_a_page(
    tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str, taken: bool
) -> None:
    await store_batch(database_url, RECIPIENTS)
    await call(service, *range(1, RECIPIENTS + 1))
    sync = Sync(tmp_path, str(service.base_url), hubspot)
    async with sync.start("--page", str(PAGE)) as process:
        await until(lambda: len(hubspot.requests) == 3)
        while await get_acknowledged(service) != (await service.get("/v1/feed")).json()["next"]:
            pass
        hubspot.hold(taken=taken)
        await call(service, 1, 2, 3, attempt=2, status="busy")
        await until(lambda: len(hubspot.requests) == 4)
        await kill(process)
    hubspot.release()
    assert (hubspot.objects["ln-1"]["outcome"] == "busy") == taken
    assert (await sync.run("--once")).status == 0
    assert {key: hubspot.objects[key]["outcome"] for key in ("ln-1", "ln-2", "ln-3", "ln-4")} == {
        "ln-1": "busy", "ln-2": "busy", "ln-3": "busy", "ln-4": "CONNECTED",
    }  # fmt: skip
    again = {"LN-1", "LN-2", "LN-3"}
    sent = count_sent(hubspot)
    assert {key for key, times in sent.items() if times == 1} == {f"LN-{n}" for n in range(4, RECIPIENTS + 1)}
    assert {sent[key] for key in again} <= {2, 3}


async def test_killed_while_it_acknowledges(
    tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await store_batch(database_url, RECIPIENTS)
    hubspot.options["outcome"] = {"CONNECTED"}
    await call(service, *range(1, RECIPIENTS))
    await call(service, RECIPIENTS, status="busy")
    sync = Sync(tmp_path, str(service.base_url), hubspot)
    first = (await service.get("/v1/feed", params={"limit": 2 * PAGE})).json()["next"]
    tag = load_mapping(tmp_path / "map.toml").digest()
    await service.put("/v1/feed/consumers/hubspot", json={"position": first, "tag": tag})
    connection = await asyncpg.connect(database_url)
    await connection.execute(BLOCK)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT pg_advisory_xact_lock(42)")
    async with sync.start("--page", str(PAGE)) as process:
        await eventually(lambda: connection.fetchval(WAITING), lambda value: value != 0)
        assert [line["key"] for line in sync.read_failures()] == [f"LN-{RECIPIENTS}"]  # before it acknowledged
        await kill(process)
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 42 AND NOT granted")
    await transaction.rollback()
    await connection.execute("DROP FUNCTION stop_here CASCADE")
    await connection.close()
    assert await get_acknowledged(service) in {first, (await service.get("/v1/feed")).json()["next"]}
    await sync.run("--once")
    assert hubspot.objects.keys() == {f"ln-{RECIPIENTS - 1}"}
    hubspot.options.clear()
    assert (await sync.run("--retry-failures", FAILURES)).status == 0
    assert hubspot.objects[f"ln-{RECIPIENTS}"]["outcome"] == "busy"
    assert sync.read_failures() == []


async def test_no_recipient_is_missing_from_upload_to_crm_despite_kills(
    tmp_path: Path, start_service: StartService, hubspot: LocalHubSpot
) -> None:
    rows = "".join(f"+9198765{number:05},LN-{number}\n" for number in range(80))
    async with connect_provider(start_service) as (service, sandbox):
        batch_id = (await upload(service, f"customer_phone,loan_id\n{rows}")).json()["data"]["id"]
        sync = Sync(tmp_path, str(service.base_url), hubspot)
        playing = asyncio.create_task(sandbox.sandbox.advance(WEEK_SECONDS))
        for kills in range(4):
            async with sync.start("--page", "7", "--accept-unknown") as process:
                seen = len(hubspot.requests)
                await until(lambda seen=seen: len(hubspot.requests) > seen + 1 or playing.done())
                hubspot.faults += ["cut"] * (kills % 2)
                await kill(process)
        await playing
        await sandbox.sandbox.wait_until_done(batch_id)
        hubspot.faults.clear()
        assert (await sync.run("--once")).status == 0
        assert await get_acknowledged(service) == (await service.get("/v1/feed?limit=1000")).json()["next"]
    truth = read_truth(sandbox, batch_id)
    assert len(truth) == 80
    assert {key: stored["outcome"] for key, stored in hubspot.objects.items()} == truth


def read_truth(sandbox: RunningSandbox, batch_id: int) -> dict[str, str]:
    """The final outcome of each loan at the provider."""
    return {
        row["call_parameters"]["loan_id"].lower(): "CONNECTED" if row["state"] == "completed" else row["state"]
        for row in sandbox.sandbox.recipients(batch_id)
    }
