"""Batches made in the provider's dashboard: found, attributed by their window, and registered over HTTP."""

import asyncio
import signal
from collections import Counter

import httpx
import pytest

from service.sandbox import RunningSandbox, sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import store_batch
from tests.guarantees.recount import find_differences
from tests.processes import serve
from tests.provider import KEY, connect_provider, upload
from tests.uploads.dashboard import PATH, discover, hold_discovery, list_waiting, make_elsewhere, put


async def check_figures(service: httpx.AsyncClient, sandbox: RunningSandbox, batch_id: int = 456) -> None:
    ours = (await service.get(f"/v1/batch-calls/{batch_id}/metrics")).json()["data"]
    theirs = sandbox.sandbox.figures(batch_id)
    assert ours.pop("avg_duration_seconds") == pytest.approx(theirs.pop("avg_duration_seconds"), abs=0.1)
    assert ours == theirs


async def check_truth(database: Database, sandbox: RunningSandbox, batch_id: int = 456) -> None:
    """Each recipient's state is the sandbox's own."""
    rows = await database.pool.fetch(
        "SELECT r.phone, o.state FROM outcomes AS o JOIN recipients AS r USING (batch_key, recipient_no) "
        "JOIN batches AS b USING (batch_key) WHERE b.batch_id = $1 AND r.withdrawn_at IS NULL", batch_id,
    )  # fmt: skip
    truth = Counter((row["phone"], row["state"]) for row in sandbox.sandbox.recipients(batch_id))
    assert Counter((row["phone"], row["state"]) for row in rows) == truth


async def test_a_dashboard_batch_is_found_attributed_by_its_window_and_registered(
    start_service: StartService, database: Database
) -> None:
    content = sample_contacts(40, seed=4)
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await make_elsewhere(sandbox, content)
        await sandbox.sandbox.wait_until_done(456)
        assert {event["reason"] for event in await list_waiting(service)} == {"no_batch"}
        await discover(database, sandbox)
        assert await list_waiting(service) == []
        await check_figures(service, sandbox)
        await check_truth(database, sandbox)
        assert (await service.post("/v1/batch-calls/456/reconcile")).json()["data"]["verdict"] == "complete"
        await discover(database, sandbox)
        assert await database.pool.fetchval("SELECT closed_at IS NOT NULL FROM batches")
        answer = await put(service, content)
        assert (answer.status_code, answer.json()["data"]) == (200, {
            "batch_id": 456, "recipients": 40, "matched": 40, "withdrawn": 0, "attributed": 0, "still_unattributed": 0,
        })  # fmt: skip
        assert (await put(service, content)).json() == answer.json()
        await check_figures(service, sandbox)
        await check_truth(database, sandbox)
        assert [batch["id"] for batch in (await service.get("/v1/batch-calls")).json()["data"]] == [456]
        outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
        assert outcomes["recipients"]["processed"] == 40
        assert (await put(service, content + "\n+919999999999,x,y,1\n")).status_code == 409


async def test_windows_that_overlap_come_right_once_one_is_registered(
    start_service: StartService, database: Database
) -> None:
    first = "customer_phone,loan_id\n+919876500001,A\n+919876500002,B\n"
    second = "customer_phone,loan_id\n+919876500003,C\n"
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        assert [await make_elsewhere(sandbox, first), await make_elsewhere(sandbox, second, "Other")] == [456, 457]
        await sandbox.sandbox.wait_until_done(456)
        await sandbox.sandbox.wait_until_done(457)
        await discover(database, sandbox)
        assert (await put(service, first)).status_code == 200
        assert await list_waiting(service) == []
        for batch_id in (456, 457):
            await check_figures(service, sandbox, batch_id)
            await check_truth(database, sandbox, batch_id)


async def test_an_id_that_is_not_known_here_is_asked_for_and_a_flood_of_them_is_not(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await make_elsewhere(sandbox, "customer_phone\n+919876500001\n")
        assert (await service.get("/v1/batch-calls/456")).json()["data"]["name"] == "Dashboard"
        answers = Counter([(await service.get(f"/v1/batch-calls/{n}")).status_code for n in range(1, 30)])
        assert answers[404] <= 10
        assert answers[404] + answers[503] == 29


async def test_what_cannot_be_registered_is_refused_with_the_reason(
    start_service: StartService, database_url: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await make_elsewhere(sandbox, "customer_phone\n+919876500001\n+919876500002\n")
        await store_batch(database_url, 1, batch_id=9)
        for path, content, status, word in [
            (PATH, "customer_phone\n+919876500001\n", 400, "1 recipients"),
            (PATH, "phone\n+919876500001\n", 400, "customer_phone"),
            (PATH, "customer_phone\n123\n123\n", 400, "E.164"),
            (PATH, "", 400, "file"),
            (f"{PATH}?force=maybe", "customer_phone\n+919876500001\n", 400, "force"),
            ("/v1/batch-calls/9/recipients", "customer_phone\n+919876500001\n", 409, "uploaded here"),
            ("/v1/batch-calls/77/recipients", "customer_phone\n+919876500001\n", 404, "77"),
        ]:
            answer = await put(service, content, path)
            assert (answer.status_code, word in answer.json()["error"]["message"]) == (status, True), answer.text
        assert (await service.put(PATH, files={"other": ("c.csv", b"x")})).status_code == 400
        assert (await service.put(PATH, files={"file": ("c.csv", b"x" * (101 * 2**20))})).status_code == 413
        assert (await put(service, "customer_phone\n+919876500001\n", f"{PATH}?force=true")).status_code == 200


async def test_two_registrations_at_once_are_one(start_service: StartService) -> None:
    content = sample_contacts(300, seed=5)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await make_elsewhere(sandbox, content)
        await sandbox.sandbox.wait_until_done(456)
        answers = await asyncio.gather(*(put(service, content) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {200}
        await check_figures(service, sandbox)


async def test_our_own_uploads_are_kept_in_step_and_stay_ours(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        assert (await upload(service)).status_code == 200
        await sandbox.sandbox.wait_until_done(456)
        await discover(database, sandbox)
        (row,) = await database.pool.fetch("SELECT origin, status FROM batches")
        assert (row["origin"], row["status"]) == ("upload", sandbox.sandbox.find_batch(456).status)


async def test_a_registration_whose_service_was_killed_is_finished_by_the_next_start(
    start_service: StartService, database: Database
) -> None:
    content = sample_contacts(1200, seed=6)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await make_elsewhere(sandbox, content)
        await sandbox.sandbox.wait_until_done(456)
        settings = {
            "OUTCOMES_DATABASE_URL": database.url, "FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY,
        }  # fmt: skip
        async with serve(**settings) as serving:
            putting = asyncio.create_task(put(serving.client, content))
            async with asyncio.timeout(30):
                while not await database.pool.fetchval(
                    "SELECT count(*) FROM registrations WHERE file_digest IS NOT NULL"
                ):
                    assert not putting.done(), putting.result().text
            serving.process.kill()
            await serving.process.wait()
            with pytest.raises(httpx.HTTPError):
                await putting
        async with serve(**settings) as serving:
            await eventually(
                lambda: database.pool.fetchval("SELECT bool_and(step = 'done') FROM registrations"), seconds=60
            )
            await serving.end(signal.SIGTERM)
        await check_figures(service, sandbox)
        await check_truth(database, sandbox)


async def test_calls_of_a_batch_that_is_not_known_yet_do_not_fill_another_window_beyond_its_size(
    start_service: StartService, database: Database
) -> None:
    first = "customer_phone,loan_id\n+919876500001,A\n+919876500002,B\n"
    second = "customer_phone,loan_id\n+919876500003,C\n+919876500004,D\n"
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await make_elsewhere(sandbox, first)
        await discover(database, sandbox)
        await sandbox.sandbox.wait_until_done(456)
        await check_figures(service, sandbox)
        await make_elsewhere(sandbox, second, "Other")
        await sandbox.sandbox.wait_until_done(457)
        guessed = await database.pool.fetchval("SELECT count(DISTINCT recipient_no) FROM facts WHERE method = 'window'")
        assert guessed == 2
        assert {event["phone"] for event in await list_waiting(service)} == {"+919876500003", "+919876500004"}
        await discover(database, sandbox)
        async with database.pool.acquire() as connection:
            assert await find_differences(connection) == []
        for batch_id, content in ((456, first), (457, second)):
            assert (await put(service, content, f"/v1/batch-calls/{batch_id}/recipients")).status_code == 200
        assert await list_waiting(service) == []
        for batch_id in (456, 457):
            await check_figures(service, sandbox, batch_id)
            await check_truth(database, sandbox, batch_id)
        async with database.pool.acquire() as connection:
            assert await find_differences(connection) == []


async def test_lost_webhooks_of_a_batch_without_a_csv_are_healed_by_its_window(
    start_service: StartService, database: Database
) -> None:
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.5
        content = sample_contacts(40, seed=7)
        await make_elsewhere(sandbox, content)
        await discover(database, sandbox)
        await sandbox.sandbox.wait_until_done(456)
        answer = await service.post("/v1/batch-calls/456/reconcile")
        assert (answer.status_code, answer.json()["data"]["verdict"]) == (200, "complete")
        await check_truth(database, sandbox)
        assert (await put(service, content)).json()["data"]["matched"] == 40
        await check_figures(service, sandbox)
        await check_truth(database, sandbox)
