"""``outcomes serve`` as a real process: its own Postgres, its signals, and what is left after a kill."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.conftest import API_KEY, SECRET
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, phone_of, post_webhook
from tests.locks import WAITING, hold_ingest_lock
from tests.processes import serve


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where an embedded Postgres keeps its data; stopped at the end should a test have failed to."""
    folder = tmp_path_factory.mktemp("data")
    yield folder
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        find_postmaster(folder).send_signal(signal.SIGINT)


def find_postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))


def has_ended(process: psutil.Process) -> bool:
    """A zombie has: its parent has not read its status yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_it_brings_its_own_postgres_stops_it_with_itself_and_finds_its_data_again(data_dir: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200
        assert (await post_webhook(serving.client, make_payload(event_id="kept"))).status_code == 204
        postmaster = find_postmaster(data_dir)
        assert await serving.end(signal.SIGTERM) == 0
        assert has_ended(postmaster)
        assert not (data_dir / "postgres" / "postmaster.pid").exists()
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
        assert (await serving.client.get("/v1/events/kept")).status_code == 200
        assert await serving.end(signal.SIGTERM) == 0


async def test_after_a_kill_the_next_start_finds_postgres_running_and_stops_it_in_the_end(data_dir: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as killed:
        assert (await post_webhook(killed.client, make_payload(event_id="acknowledged"))).status_code == 204
        postmaster = find_postmaster(data_dir)
        assert await killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert not has_ended(postmaster)
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
        assert find_postmaster(data_dir) == postmaster
        assert (await serving.client.get("/v1/events/acknowledged")).status_code == 200
        assert await serving.end(signal.SIGTERM) == 0
    assert has_ended(postmaster)


@pytest.mark.parametrize("killed_first", [True, False], ids=["the older", "the younger"])
async def test_the_last_of_two_services_stops_postgres_though_the_other_was_killed(
    data_dir: Path, killed_first: bool
) -> None:
    async with (
        serve(OUTCOMES_DATA_DIR=str(data_dir)) as older,
        serve(OUTCOMES_DATA_DIR=str(data_dir)) as younger,
    ):
        postmaster = find_postmaster(data_dir)
        killed, last = (older, younger) if killed_first else (younger, older)
        assert await killed.end(signal.SIGKILL) == -signal.SIGKILL
        assert (await post_webhook(last.client, make_payload(event_id="after"))).status_code == 204
        assert await last.end(signal.SIGTERM) == 0
    assert has_ended(postmaster)


async def test_one_that_leaves_before_another_leaves_postgres_running(data_dir: Path) -> None:
    async with (
        serve(OUTCOMES_DATA_DIR=str(data_dir)) as first,
        serve(OUTCOMES_DATA_DIR=str(data_dir)) as second,
    ):
        postmaster = find_postmaster(data_dir)
        assert await first.end(signal.SIGTERM) == 0
        assert not has_ended(postmaster)
        assert (await post_webhook(second.client, make_payload(event_id="still"))).status_code == 204
        assert await second.end(signal.SIGTERM) == 0
    assert has_ended(postmaster)


async def test_a_process_that_got_the_number_of_a_killed_service_is_not_waited_for(data_dir: Path) -> None:
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    try:
        async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as killed, serve(OUTCOMES_DATA_DIR=str(data_dir)) as last:
            postmaster = find_postmaster(data_dir)
            await killed.end(signal.SIGKILL)
            # What is left of the killed one, once the system has given its number to another process.
            places, users = data_dir / "postgres-users", data_dir / "postgres" / ".handle_pids.json"
            (places / str(killed.process.pid)).rename(places / str(bystander.pid))
            users.write_text(users.read_text().replace(str(killed.process.pid), str(bystander.pid)))
            assert await last.end(signal.SIGTERM) == 0
        assert has_ended(postmaster)
        assert list(places.iterdir()) == []
    finally:
        await bystander.communicate(b"\n")


async def test_a_service_of_a_version_that_left_no_file_is_a_user_while_it_lives(data_dir: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as older, serve(OUTCOMES_DATA_DIR=str(data_dir)) as younger:
        postmaster = find_postmaster(data_dir)
        (data_dir / "postgres-users" / str(older.process.pid)).unlink()
        assert await younger.end(signal.SIGTERM) == 0
        assert not has_ended(postmaster)
        assert await older.end(signal.SIGTERM) == 0
    assert has_ended(postmaster)


async def test_postgres_killed_with_the_service_recovers_at_the_next_start(data_dir: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as killed:
        assert (await post_webhook(killed.client, make_payload(event_id="acknowledged"))).status_code == 204
        postmaster = find_postmaster(data_dir)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have followed the first already
                process.kill()
        await killed.end(signal.SIGKILL)
        await eventually(lambda: all(has_ended(process) for process in processes))
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
        assert (await serving.client.get("/v1/events/acknowledged")).status_code == 200
        assert await serving.end(signal.SIGTERM) == 0


async def test_a_process_that_got_the_number_of_a_server_that_is_gone_is_left_alone(data_dir: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
        pid_file = data_dir / "postgres" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        assert await serving.end(signal.SIGTERM) == 0
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    try:
        # What a crash of the machine leaves behind, once the system has given the number to another process.
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:], ""]))
        async with serve(OUTCOMES_DATA_DIR=str(data_dir)) as serving:
            assert (await serving.client.get("/readyz")).status_code == 200
            assert await serving.end(signal.SIGTERM) == 0
        assert not has_ended(psutil.Process(bystander.pid))
    finally:
        await bystander.communicate(b"\n")


async def test_a_signal_is_obeyed_from_the_moment_at_which_it_shows_its_port(database_url: str) -> None:
    for _ in range(3):
        async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
            assert await serving.end(signal.SIGTERM) == 0
            assert serving.log[-1] == {**serving.log[-1], "event": "stopped", "signal": "SIGTERM"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_after_what_was_accepted_is_answered(
    database_url: str, number: signal.Signals
) -> None:
    holder = await asyncpg.connect(database_url)
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        async with hold_ingest_lock(holder):
            sent = asyncio.create_task(post_webhook(serving.client, make_payload(event_id="accepted")))
            await eventually(lambda: holder.fetchval(WAITING))
            serving.process.send_signal(number)
            port = serving.client.base_url.port
            # Until it takes nothing new, and so has seen the signal.
            await eventually(lambda: can_connect(port), lambda takes: not takes)
        assert (await sent).status_code == 204
        assert await serving.end(0) == 0
        assert [line["signal"] for line in serving.log if line["event"] == "stopped"] == [number.name]
    assert await holder.fetchval("SELECT count(*) FROM events WHERE event_id = 'accepted'") == 1
    await holder.close()


async def can_connect(port: int | None) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_its_log_shows_no_body_no_phone_and_no_key(database_url: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_LOG_LEVEL": "debug", "FORMANT_API_KEY": "our-key"}
    async with serve(**settings) as serving:
        await post_webhook(serving.client, make_payload(recipient=7, results={"intent": "a-word-of-the-body"}))
        await post_webhook(serving.client, make_payload(recipient=7), secret="a-wrong-secret")
        await post_webhook(serving.client, b'{"event_id": "a-word-of-the-body"}')
        await serving.client.get("/v1/events/any", headers={"authorization": "Bearer a-wrong-key"})
        assert await serving.end(signal.SIGTERM) == 0
        log = str(serving.log)
    assert "event_quarantined" in log
    for secret in (phone_of(7), phone_of(7)[1:], "a-word-of-the-body", SECRET, API_KEY, "our-key", "wrong"):
        assert secret not in log


async def test_two_services_on_one_database_share_the_work(database_url: str) -> None:
    url = {"OUTCOMES_DATABASE_URL": database_url}
    async with serve(**url) as first, serve(**url) as second:
        payload = make_payload(event_id="shared")
        for serving in (first, second):
            assert (await post_webhook(serving.client, payload)).status_code == 204
            assert (await serving.client.get("/v1/events/shared")).status_code == 200
        assert await read_metric(first.client, "outcomes_events_total", disposition="duplicate") == 0
        assert await read_metric(second.client, "outcomes_events_total", disposition="duplicate") == 1
        assert {await first.end(signal.SIGTERM), await second.end(signal.SIGTERM)} == {0}
