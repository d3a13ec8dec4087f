"""Who must not be called is not dialled: by the sandbox's own log, whenever the suppression was committed before the
sending began, on every way that an upload can take, and after kill -9."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.formant.client import FormantClient, open_http
from service.formant.regions import Regions
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lease import SendLease
from service.uploads.lookup import UploadFinder
from service.uploads.sending import Sender
from service.uploads.uploader import Promoter, Uploader
from tests.conftest import StartService, make_starter
from tests.eventually import eventually
from tests.factories import AGENT_ID, make_payload, post_webhook
from tests.guarantees.recount import find_differences
from tests.guarantees.stopped_uploads import (
    BLOCK,
    UNBLOCK,
    WEEK_SECONDS,
    provider,
    wait_for_block,
    wait_for_step,
)
from tests.processes import serve
from tests.provider import KEY, connect_provider, find_free_port, upload
from tests.suppressions.listing import count_dials, suppress

PEOPLE = [f"+9198000000{number:02}" for number in range(20)]
CONTENT = "customer_phone,name\n" + "".join(f"{phone},x\n" for phone in PEOPLE)
WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'suppressions_lock'::regclass AND NOT granted"
SUPPRESS = """
SELECT suppress_people(t.phones, ARRAY(SELECT text 'r' FROM unnest(t.phones)), 'crm', NULL, NULL, 'me', NULL, NULL)
FROM (SELECT $1::text[] AS phones) AS t
"""


async def check_figures(service: httpx.AsyncClient, sandbox: RunningSandbox, database: Database) -> None:
    """The service's figures equal the provider's for every batch, and the counters a recount."""
    for batch_id in sandbox.sandbox.records.batches:
        theirs = list(sandbox.sandbox.recipients(batch_id))
        shown = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        assert shown["recipients"]["total"] == shown["recipients"]["processed"] == len(theirs)
        assert (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]["verdict"] == "complete"
        listed = (await service.get(f"/v1/batch-calls/{batch_id}/recipients", params={"limit": 1000})).json()["data"]
        sent = [row["phone"] for row in listed if row["state"] != "withdrawn"]
        assert sorted(sent) == sorted(row["phone"] for row in theirs)
    assert (await service.get("/v1/unattributed")).json()["data"] == []
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


def once(*phones: str) -> Counter[str]:
    return Counter(phones)


@asynccontextmanager
async def connect(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_suppressed_before_the_upload(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await suppress(service, *PEOPLE[:5])
        assert (await upload(service, CONTENT)).status_code == 200
        assert await count_dials(sandbox) == once(*PEOPLE[5:])
        await check_figures(service, sandbox, database)


async def test_suppressed_between_a_test_batch_and_its_promotion(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await suppress(service, *PEOPLE[:2])
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE[2:] if phone not in dialled]
        assert (await suppress(service, *rest[:4], *dialled))["waiting_rows"] == 4
        promoted = await service.post("/v1/batch-calls/456/promote")
        assert (promoted.status_code, promoted.json()["data"]["total_recipients"]) == (200, len(rest) - 4)
        assert await count_dials(sandbox) == once(*dialled, *rest[4:])
        await check_figures(service, sandbox, database)
        lines = (await service.get("/v1/audit")).json()["data"]
        assert [line["details"] for line in lines if line["outcome"] == "withdrawn"] == [{"recipients": 4}]


async def test_suppressed_before_a_promotion_by_rate(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, CONTENT, test_recipients="8", promote_at_success_rate="0")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE if phone not in dialled]
        await suppress(service, rest[0], rest[-1])
        assert (await service.post("/v1/batch-calls/456/reconcile")).json()["data"]["verdict"] == "complete"
        async with open_http(sandbox.base_url, KEY) as http:
            client = FormantClient(http, Metrics())
            sender = Sender(database, client, UploadFinder(database, client))
            await Promoter(
                database, Uploader(database, sender, ref_column="outcome_ref", regions=Regions())
            ).promote_due()
        assert await count_dials(sandbox) == once(*dialled, *rest[1:-1])
        await check_figures(service, sandbox, database)


async def test_a_promotion_of_which_nobody_is_left_dials_nobody_and_is_not_tried_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        await suppress(service, *PEOPLE)
        answer = await service.post("/v1/batch-calls/456/promote")
        assert (answer.status_code, "nobody in it may be called" in answer.text) == (409, True)
        assert await count_dials(sandbox) == dialled
        uploads = (await service.get("/v1/uploads")).json()["data"]
        assert [(row["state"], row["recipients"]) for row in uploads] == [("uploaded", 8), ("failed", 0)]
        assert await database.pool.fetchval("SELECT count(*) FROM held_files") == 0


async def test_a_promotion_that_the_provider_refused_and_that_is_made_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE if phone not in dialled]
        for phone in rest[:2]:
            await suppress(service, phone)
            sandbox.sandbox.faults.next_upload = "429"
            assert (await service.post("/v1/batch-calls/456/promote")).status_code == 429
        await suppress(service, rest[2])
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert await count_dials(sandbox) == once(*dialled, *rest[3:])
        await check_figures(service, sandbox, database)


async def test_a_person_removed_from_the_list_before_the_promotion_is_called(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE if phone not in dialled]
        await suppress(service, *rest[:2])
        await service.delete("/v1/suppressions", params={"phone": rest[0], "reason": "asked again"})
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert await count_dials(sandbox) == once(*dialled, rest[0], *rest[2:])
        await check_figures(service, sandbox, database)


@pytest.mark.parametrize("test_recipients", ["0", "8"])
async def test_suppressed_while_the_checked_file_is_being_stored(
    start_service: StartService, database: Database, database_url: str, test_recipients: str
) -> None:
    """The file was compared with the list already; its recipients are not committed, so nobody else can see them."""
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        async with connect(database_url) as connection:
            await connection.execute(BLOCK.format(state="prepared"))
            await connection.execute("SELECT pg_advisory_lock(42)")
            trying = asyncio.create_task(upload(service, CONTENT, test_recipients=test_recipients))
            await wait_for_step(asyncio.create_task(wait_for_block(connection)), trying)
            assert (await suppress(service, *PEOPLE[:10]))["waiting_rows"] == 0
            await connection.execute("SELECT pg_advisory_unlock(42)")
        assert (await trying).status_code == 200, trying.result().text
        if test_recipients != "0":
            assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert await count_dials(sandbox) == once(*PEOPLE[10:])
        await check_figures(service, sandbox, database)


async def test_suppressed_by_a_transaction_that_cannot_see_the_upload_and_commits_before_it_is_sent(
    start_service: StartService, database: Database, database_url: str
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        async with connect(database_url) as connection, connection.transaction():
            await connection.execute(SUPPRESS, PEOPLE[:10])
            trying = asyncio.create_task(upload(service, CONTENT))
            await wait_for_step(asyncio.create_task(eventually(lambda: database.pool.fetchval(WAITING))), trying)
            assert sandbox.sandbox.records.batches == {}
        assert (await trying).status_code == 200
        assert await count_dials(sandbox) == once(*PEOPLE[10:])
        await check_figures(service, sandbox, database)


async def test_suppressed_again_and_again_just_before_the_upload_is_sent(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_sending, left = SendLease.begin_sending, list(PEOPLE[:3])

    async def suppress_and_begin(lease: SendLease) -> asyncpg.Record | None:
        if left:
            await database.pool.execute(SUPPRESS, [left.pop()])
        return await begin_sending(lease)

    monkeypatch.setattr(SendLease, "begin_sending", suppress_and_begin)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        assert (await upload(service, CONTENT)).status_code == 200
        assert await count_dials(sandbox) == once(*PEOPLE[3:])
        await check_figures(service, sandbox, database)


async def test_a_suppression_that_comes_while_the_sending_begins_waits_until_it_has_begun(
    start_service: StartService, database: Database, database_url: str
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox), connect(database_url) as connection:
        await connection.execute(BLOCK.format(state="uploading"))
        await connection.execute("SELECT pg_advisory_lock(42)")
        trying = asyncio.create_task(upload(service, CONTENT))
        await wait_for_step(asyncio.create_task(wait_for_block(connection)), trying)
        suppressing = asyncio.create_task(suppress(service, *PEOPLE[:3]))
        await eventually(lambda: database.pool.fetchval(WAITING))
        assert not suppressing.done()
        await connection.execute("SELECT pg_advisory_unlock(42)")
        assert (await suppressing)["waiting_rows"] == 0  # nothing waits: the provider has these people
        assert (await trying).status_code == 200
        assert await count_dials(sandbox) == once(*PEOPLE)


async def test_suppressed_and_erased(start_service: StartService, database: Database) -> None:
    """The hash stays when everything else about the person is erased, before and after the suppression."""
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await suppress(service, PEOPLE[0])
        for phone in PEOPLE[:2]:
            assert (await service.post("/v1/erasures", json={"phone": phone})).status_code == 200
        await suppress(service, PEOPLE[1])
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE[2:] if phone not in dialled]
        await suppress(service, rest[0])
        assert (await service.post("/v1/erasures", json={"phone": rest[0]})).status_code == 200
        assert (await service.post("/v1/erasures", json={"phone": rest[1]})).status_code == 200
        await suppress(service, rest[1])
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert await count_dials(sandbox) == once(*dialled, *rest[2:])
        assert not {*PEOPLE[:2], *rest[:2]} & set(await count_dials(sandbox))


async def test_learned_from_calls_of_the_test_batch(
    start_service: StartService, database: Database, tmp_path: Any
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'[agents.{AGENT_ID}]\nsuppress_when = {{ intent = "do_not_call" }}\n')
    async with connect_provider(start_service, plays=True, OUTCOMES_TARGETS_FILE=str(path)) as (service, sandbox):
        await upload(service, CONTENT, test_recipients="8")
        dialled = await count_dials(sandbox)
        rest = [phone for phone in PEOPLE if phone not in dialled]
        # Somebody calls in, with a phone of the held rows, and asks not to be called.
        spoken = make_payload(recipient=None, parameters={}, phone=rest[0], results={"intent": "do_not_call"})
        assert (await post_webhook(service, spoken)).status_code == 204
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert await count_dials(sandbox) == once(*dialled, *rest[1:])


@pytest.mark.parametrize("state", ["prepared", "uploading"])
async def test_kill_9_between_the_suppression_and_the_promotion(
    database_url: str, database: Database, state: str
) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        configured = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_PORT": str(port),
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        async with connect(database_url) as connection, serve(**configured) as serving:
            await upload(serving.client, CONTENT, test_recipients="8")
            sampled = {row["phone"] for row in sandbox.sandbox.recipients(456)}
            rest = [phone for phone in PEOPLE if phone not in sampled]
            await suppress(serving.client, rest[0])
            await connection.execute(BLOCK.format(state=state))
            await connection.execute("SELECT pg_advisory_lock(42)")
            trying = asyncio.create_task(serving.client.post("/v1/batch-calls/456/promote"))
            blocked = asyncio.create_task(wait_for_block(connection))
            await wait_for_step(blocked, trying)
            serving.process.kill()
            await serving.process.wait()
            with pytest.raises(httpx.HTTPError):
                await trying
            await connection.execute("SELECT pg_terminate_backend($1)", blocked.result())
            await connection.execute("SELECT pg_advisory_unlock(42)")
            await connection.execute(UNBLOCK)
            await connection.execute("UPDATE batches SET leased_until = now() - interval '1 second'")
        async with serve(**configured) as again:
            await eventually(
                lambda: again.client.get("/v1/uploads", params={"state": "held"}),
                lambda answer: len(answer.json()["data"]) == 1,
            )
            await suppress(again.client, rest[1])
            assert (await again.client.post("/v1/batch-calls/456/promote")).status_code == 200
            await sandbox.sandbox.advance(WEEK_SECONDS)
            assert await count_dials(sandbox) == once(*sampled, *rest[2:])
            await check_figures(again.client, sandbox, database)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_dialled_is_the_file_without_suppressed_people_and_duplicates(clones: Any, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=30), label="rows")
    before = data.draw(st.sets(st.sampled_from(PEOPLE)), label="suppressed before the upload")
    between = data.draw(st.sets(st.sampled_from(PEOPLE)), label="suppressed before the promotion")
    sample = data.draw(st.integers(0, 5), label="test_recipients")
    asyncio.run(play(clones, rows, before, between, sample))


async def play(clones: Any, rows: list[str], before: set[str], between: set[str], sample: int) -> None:
    url = clones.take()
    try:
        async with connect_provider(make_starter(url), plays=True) as (service, sandbox):
            if before:
                await suppress(service, *sorted(before))
            content = "customer_phone\n" + "".join(f"{phone}\n" for phone in rows)
            answer = await upload(service, content, duplicates="first", test_recipients=str(sample))
            left = set(rows) - before
            if not left or sample >= len(left):
                assert answer.status_code == 400
                assert await count_dials(sandbox) == Counter()
                return
            assert answer.status_code == 200
            if sample:
                tested = {row["phone"] for row in sandbox.sandbox.recipients(456)}
                assert len(tested) == sample
                if between:
                    await suppress(service, *sorted(between))
                promoted = await service.post("/v1/batch-calls/456/promote")
                left = tested | (left - between)
                assert promoted.status_code == (200 if left > tested else 409)
            assert await count_dials(sandbox) == Counter(left)
    finally:
        clones.give_back(url)
