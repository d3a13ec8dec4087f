"""The sync job as a process: what it sends and prints, and that it keeps its position."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.conftest import StartService
from tests.crm.hubspot_server import LocalHubSpot
from tests.crm.sync_process import FAILURES, Sync, call, get_acknowledged, until
from tests.factories import phone_of, store_batch
from tests.processes import OUTCOMES, run


@pytest.fixture
async def hubspot() -> AsyncIterator[LocalHubSpot]:
    async with LocalHubSpot().serve() as serving:
        yield serving


@pytest.fixture
async def sync(tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str) -> Sync:
    """The job, on a service that has a batch of ten."""
    await store_batch(database_url, 10)
    return Sync(tmp_path, str(service.base_url), hubspot)


async def forget_key(database_url: str, *recipients: int) -> None:
    """Makes recipients whose CSV has no column with the key."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        'UPDATE recipients SET parameters = \'{"customer": "x"}\' WHERE recipient_no = ANY($1)', list(recipients)
    )
    await connection.close()


async def test_final_outcomes_reach_the_crm_once(sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot) -> None:
    await call(service, 1, 2)
    await call(service, 3, status="busy", final=False)
    finished = await sync.run("--once")
    assert finished.status == 0, finished
    assert hubspot.objects["ln-1"] == {
        "loan_id": "LN-1", "outcome": "CONNECTED", "attempts": "1", "intent": "promise_to_pay", "phone": phone_of(1),
        "channel": "voice",
    }  # fmt: skip
    assert hubspot.objects.keys() == {"ln-1", "ln-2"}
    feed = (await service.get("/v1/feed")).json()
    assert await get_acknowledged(service) == feed["next"]
    assert "not final yet" in finished.output
    assert (await sync.run("--once")).status == 0
    assert len(hubspot.requests) == 1


@pytest.mark.parametrize("empty", ["clear", "keep", None])
async def test_a_later_change_is_sent_and_clears_only_where_it_is_asked_to(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, empty: str | None
) -> None:
    rule = f', empty = "{empty}"' if empty else ""
    sync.edit('intent = "results.intent"', f'intent = {{ field = "results.intent"{rule} }}')
    await call(service, 1)
    assert (await sync.run("--once")).status == 0
    await call(service, 1, attempt=2, status="no_answer", results={})
    assert (await sync.run("--once")).status == 0
    assert [len(request["inputs"]) for request in hubspot.requests] == [1, 1]
    assert hubspot.objects["ln-1"]["outcome"] == "no_answer"
    assert hubspot.objects["ln-1"]["attempts"] == "2"
    assert hubspot.objects["ln-1"].get("intent") == (None if empty == "clear" else "promise_to_pay")


async def test_without_once_it_follows_until_sigterm(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    async with sync.start() as process:
        await until(lambda: "ln-1" in hubspot.objects)
        await call(service, 2)
        await until(lambda: "ln-2" in hubspot.objects)
        while await get_acknowledged(service) != (await service.get("/v1/feed")).json()["next"]:
            pass
        process.send_signal(signal.SIGTERM)
        output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"sent" in output


async def test_an_outage_of_the_crm_is_waited_out_while_it_follows(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    hubspot.faults += ["cut", "cut"]
    await call(service, 1)
    async with sync.start():
        await until(lambda: len(hubspot.requests) == 3)
        while await get_acknowledged(service) is None:
            pass
    assert "ln-1" in hubspot.objects


async def test_a_dry_run_shows_what_would_be_sent_and_changes_nothing(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await call(service, 1, 2, 3, 4)
    await forget_key(database_url, 4)
    finished = await sync.run("--dry-run", OUTCOMES_CRM_TOKEN="")
    assert finished.status == 1, finished
    assert "would be sent" in finished.output
    assert "loan_id=LN-1" in finished.output
    assert f"phone=•••{phone_of(1)[-2:]}" in finished.output
    assert "1 × there is no 'loan_id' among the call parameters, or it is empty (recipient 456-4)" in finished.output
    assert phone_of(1) not in finished.output + finished.errors
    assert hubspot.paths == []
    assert await get_acknowledged(service) is None
    assert not (sync.folder / FAILURES).exists()


async def test_recipients_without_the_key_are_failures_and_are_sent_once_they_have_it(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await call(service, 1, 2, 3)
    await forget_key(database_url, 2, 3)
    finished = await sync.run("--once")
    assert finished.status == 1
    assert "2 × there is no 'loan_id' among" in finished.output
    assert [line["key"] for line in sync.read_failures()] == ["456-2", "456-3"]
    assert hubspot.objects.keys() == {"ln-1"}
    connection = await asyncpg.connect(database_url)
    await connection.execute('UPDATE recipients SET parameters = \'{"loan_id": "LN-2"}\' WHERE recipient_no = 2')
    await connection.close()
    assert (await sync.run("--retry-failures", FAILURES)).status == 1
    assert [line["key"] for line in sync.read_failures()] == ["456-3"]
    assert hubspot.objects.keys() == {"ln-1", "ln-2"}


async def test_what_the_crm_refuses_is_kept_with_the_reason_and_it_continues(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    hubspot.partial = "whole"
    hubspot.options["outcome"] = {"CONNECTED"}
    await call(service, 1, 2)
    await call(service, 3, 4, status="busy")
    finished = await sync.run("--once")
    assert finished.status == 1, finished
    assert "busy was not one of" in " ".join(finished.output.split())
    assert hubspot.objects.keys() == {"ln-1", "ln-2"}
    assert [(line["key"], line["batch_id"], line["recipient"]) for line in sync.read_failures()] == [
        ("LN-3", 456, 3), ("LN-4", 456, 4),
    ]  # fmt: skip
    assert await get_acknowledged(service) == (await service.get("/v1/feed")).json()["next"]
    assert (await sync.run("--once")).status == 0


async def test_a_retry_sends_the_current_outcomes(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    hubspot.options["outcome"] = {"CONNECTED"}
    await call(service, 3, 4, status="busy")
    assert (await sync.run("--once", "--accept-unknown")).status == 1
    await call(service, 3, attempt=2)
    assert (await sync.run("--once")).status == 0  # the newer outcome of one of them is taken
    finished = await sync.run("--retry-failures", FAILURES)
    assert finished.status == 1
    assert hubspot.objects["ln-3"]["outcome"] == "CONNECTED"  # and no older one put over it
    assert [line["key"] for line in sync.read_failures()] == ["LN-4"]

    hubspot.options["outcome"].add("busy")
    finished = await sync.run("--retry-failures", FAILURES)
    assert finished.status == 0, finished
    assert hubspot.objects["ln-4"]["outcome"] == "busy"
    assert sync.read_failures() == []


async def test_with_no_failures_there_is_nothing_to_retry(sync: Sync, hubspot: LocalHubSpot) -> None:
    (sync.folder / FAILURES).touch()
    finished = await sync.run("--retry-failures", FAILURES, "--accept-unknown")
    assert finished.status == 0
    assert "nothing to retry" in finished.output
    assert hubspot.requests == []


async def test_a_retry_respects_another_recipient_that_has_the_same_key_by_now(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    hubspot.options["outcome"] = {"CONNECTED"}
    await call(service, 1, status="busy")
    assert (await sync.run("--once", "--accept-unknown")).status == 1
    await store_batch(database_url, 1, batch_id=457, ref_token="cafe0001", first_phone=50)
    await call(service, 1, ref_token="cafe0001", phone=phone_of(50))
    assert (await sync.run("--once")).status == 0
    hubspot.options.clear()
    assert (await sync.run("--retry-failures", FAILURES)).status == 0
    assert hubspot.objects["ln-1"]["outcome"] == "CONNECTED"
    assert sync.read_failures() == []


async def test_from_the_start_everything_is_sent_again(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1, 2)
    for arguments in ((), ("--from-start",)):
        assert (await sync.run("--once", *arguments)).status == 0
    assert [len(request["inputs"]) for request in hubspot.requests] == [2, 2]
    assert await get_acknowledged(service) == (await service.get("/v1/feed")).json()["next"]


async def test_what_fails_twice_is_one_failure_after_a_retry(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    hubspot.options["outcome"] = {"CONNECTED"}
    await call(service, 1, 2)
    await call(service, 3, status="busy")
    for _ in range(2):
        assert (await sync.run("--once", "--from-start")).status == 1
    assert [line["key"] for line in sync.read_failures()] == ["LN-3", "LN-3"]
    assert (await sync.run("--retry-failures", FAILURES)).status == 1
    assert [line["key"] for line in sync.read_failures()] == ["LN-3"]


@pytest.mark.parametrize("key", ["parameter", "recipient_id"])
async def test_erased_people_are_counted_and_sent_where_the_key_is_still_known(
    service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str, tmp_path: Path, key: str
) -> None:
    await store_batch(database_url, 3)
    sync = Sync(tmp_path, str(service.base_url), hubspot, more='[erased]\nproperties = { outcome = "ERASED" }')
    if key == "recipient_id":
        written = (tmp_path / "map.toml").read_text()
        (tmp_path / "map.toml").write_text(written.replace('parameter = "loan_id"', 'field = "recipient_id"'))
    await call(service, 1, 2, 3)
    assert (await sync.run("--once")).status == 0
    erasure = (await service.post("/v1/erasures", json={"phone": phone_of(2)})).json()["data"]
    while erasure["state"] != "done":
        erasure = (await service.get(f"/v1/erasures/{erasure['erasure_id']}")).json()["data"]
    finished = await sync.run("--once")
    assert finished.status == 0
    outcomes = {name: stored["outcome"] for name, stored in hubspot.objects.items()}
    if key == "recipient_id":
        assert outcomes == {"456-1": "CONNECTED", "456-2": "ERASED", "456-3": "CONNECTED"}
    else:
        assert outcomes == {"ln-1": "CONNECTED", "ln-2": "CONNECTED", "ln-3": "CONNECTED"}
        (line,) = (line for line in finished.output.splitlines() if "erased" in line)
        assert " 1 " in line


async def test_a_second_job_on_the_same_failures_is_refused(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1)
    async with sync.start():
        await until(lambda: hubspot.objects)
        finished = await sync.run("--once")
    assert finished.status == 2
    assert "in use by another crm-sync" in finished.errors


async def test_the_log_has_counts_and_no_people(sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot) -> None:
    hubspot.options["outcome"] = {"CONNECTED"}
    hubspot.faults.append("cut")
    await call(service, 1, status="busy")
    await call(service, 2)
    async with sync.start(OUTCOMES_LOG_LEVEL="debug") as process:
        await until(lambda: get_acknowledged(service))
        process.terminate()
        _, errors = await process.communicate()
    lines = [json.loads(line) for line in errors.splitlines()]
    (page,) = (line for line in lines if line["event"] == "crm_page_synced")
    assert (page["consumer"], page["sent"], page["failed"], page["skipped"]) == ("hubspot", 1, 1, 0)
    assert [line["status"] for line in lines if line["event"] == "crm_sync_waiting"] == [0]
    for secret in ("LN-1", "LN-2", phone_of(1), phone_of(2), "promise_to_pay", "crm-token"):
        assert secret.encode() not in errors


async def test_runs_that_end_log_plain_lines(sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot) -> None:
    await call(service, 1)
    (sync.folder / FAILURES).touch()
    for arguments in (("--dry-run",), ("--retry-failures", FAILURES), ("--once",)):
        finished = await sync.run(*arguments, OUTCOMES_LOG_LEVEL="debug", OUTCOMES_FEED_KYE="x")
        assert finished.status == 0, finished
        lines = finished.errors.splitlines()
        assert lines[0].startswith("outcomes: warning: unknown setting (setting OUTCOMES_FEED_KYE")
        assert [line for line in lines if not line.startswith("outcomes: ")] == []


@pytest.mark.parametrize(
    ("arguments", "settings", "parts"),
    [
        (["--once"], {"OUTCOMES_FEED_KEY": ""}, ["OUTCOMES_FEED_KEY is empty"]),
        (["--once"], {"OUTCOMES_FEED_KEY": "wrong"}, ["refused OUTCOMES_FEED_KEY", "scope feed"]),
        (["--once"], {"OUTCOMES_CRM_TOKEN": ""}, ["OUTCOMES_CRM_TOKEN is empty"]),
        (["--once"], {"OUTCOMES_CRM_TOKEN": "wrong"}, ["refused OUTCOMES_CRM_TOKEN with 401"]),
        (["--once"], {"OUTCOMES_URL": "ftp://x"}, ["OUTCOMES_URL takes"]),
        (["--once", "--failures", "/nowhere/f"], {}, ["/nowhere/f cannot be written", "--failures"]),
    ],
)
async def test_an_error_is_a_sentence(
    sync: Sync, service: httpx.AsyncClient, arguments: list[str], settings: dict[str, str], parts: list[str]
) -> None:
    await call(service, 1)
    finished = await sync.run(*arguments, **settings)
    assert finished.status == 2, finished
    assert "Traceback" not in finished.errors
    assert [part for part in parts if part not in finished.errors] == [], finished.errors
    assert await get_acknowledged(service) is None


async def test_a_key_with_the_scope_feed_is_enough_and_another_is_refused(
    tmp_path: Path, start_service: StartService, hubspot: LocalHubSpot, database_url: str
) -> None:
    await store_batch(database_url, 1)
    feed_key, read_key = [
        (
            await run(OUTCOMES, "keys", "create", scope, "--scope", scope, OUTCOMES_DATABASE_URL=database_url)
        ).output.strip()
        for scope in ("feed", "read")
    ]
    async with start_service() as service:
        sync = Sync(tmp_path, str(service.base_url), hubspot)
        await call(service, 1)
        refused = await sync.run("--once", OUTCOMES_FEED_KEY=read_key)
        assert refused.status == 2
        assert "Set a key with the scope feed" in refused.errors
        assert (await sync.run("--once", OUTCOMES_FEED_KEY=feed_key)).status == 0
    assert hubspot.objects.keys() == {"ln-1"}


async def test_an_unknown_field_in_the_mapping_is_named_with_the_nearest(
    tmp_path: Path, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    sync = Sync(tmp_path, str(service.base_url), hubspot, more='[properties.x]\nfield = "statsu"')
    finished = await sync.run("--once")
    assert finished.status == 2
    assert "map.toml: properties.x: 'statsu' is not a field of the feed (did you mean 'status'?)" in finished.errors


async def test_a_position_beyond_the_end_of_the_feed_is_refused_with_the_remedy(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, database_url: str
) -> None:
    await call(service, 1)
    assert (await sync.run("--once")).status == 0
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE feed_consumers SET position = 999999")  # as after a restore of an older backup
    await connection.close()
    finished = await sync.run("--once")
    assert finished.status == 2
    assert "beyond the end" in finished.errors
    assert "--from-start" in finished.errors
    assert (await sync.run("--once", "--from-start")).status == 0
    assert len(hubspot.requests) == 2


async def test_another_job_under_the_same_name_is_noticed(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot, tmp_path: Path
) -> None:
    await call(service, 1, 2)
    end = (await service.get("/v1/feed")).json()["next"]
    hubspot.hold()
    async with sync.start("--once", "--page", "1") as process:
        await until(lambda: hubspot.requests)
        await service.put("/v1/feed/consumers/hubspot", json={"position": end})
        hubspot.release()
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"Does another job use the same consumer?" in errors


async def test_a_paused_consumers_job_stops_after_its_page_and_continues_there_once_resumed(
    sync: Sync, service: httpx.AsyncClient, hubspot: LocalHubSpot
) -> None:
    await call(service, 1, 2)
    hubspot.hold()
    async with sync.start("--once", "--page", "1") as process:
        await until(lambda: hubspot.requests)
        await service.put("/v1/feed/consumers/hubspot", json={"position": 0})
        await service.post("/v1/feed/consumers/hubspot/pause")
        hubspot.release()
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"is paused since" in errors
    assert (await get_acknowledged(service), len(hubspot.requests)) == (1, 1), "what was sent is acknowledged"
    assert "is paused since" in (await sync.run("--once")).errors
    assert len(hubspot.requests) == 1
    await service.post("/v1/feed/consumers/hubspot/resume")
    assert (await sync.run("--once")).status == 0
    assert (await get_acknowledged(service), len(hubspot.requests)) == (2, 2)
