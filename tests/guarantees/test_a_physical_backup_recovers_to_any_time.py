"""A base backup and the archived log: after ``kill -9`` of the server everything acknowledged is recovered, or all data
up to a chosen time. The commands are those of the runbook."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from service.app import prepare_schema
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.factories import store_batch
from tests.guarantees.checker import Checker
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, run

RECIPIENTS = 5000
BURST = 300


@pytest.fixture
async def archiving() -> AsyncIterator[PostgresServer]:
    """A server that archives its log, set up as in the runbook."""
    server = PostgresServer(find_programs())
    archive = server.folder / "archive"
    archive.mkdir()
    server.own(archive)
    server.start()
    connection = await asyncpg.connect(server.url("postgres"))
    await connection.execute("ALTER SYSTEM SET archive_mode = on")
    command = f"test ! -f {archive}/%f && cp %p {archive}/.%f && mv {archive}/.%f {archive}/%f"
    await connection.execute(f"ALTER SYSTEM SET archive_command = '{command}'")
    await connection.execute("ALTER SYSTEM SET archive_timeout = '60s'")
    await connection.close()
    server.stop()
    server.start()
    yield server
    server.remove()


def recover(server: PostgresServer, *settings: str) -> PostgresServer:
    """Recovers a server from its base backup and its archive."""
    restore = f"restore_command = 'cp {server.folder}/archive/%f %p'\n"
    recovered = server.recover(server.folder / "base", restore + "".join(f"{line}\n" for line in settings))
    recovered.start()
    return recovered


async def wait_until_recovered(url: str) -> None:
    connection = await asyncpg.connect(url)
    await eventually(lambda: connection.fetchval("SELECT pg_is_in_recovery()"), lambda value: not value, seconds=60)
    await connection.close()


@pytest.mark.timeout(240)  # three servers, one after the other
async def test_everything_acknowledged_is_recovered_or_everything_up_to_a_time(
    start_service: StartService, archiving: PostgresServer, checker: Checker
) -> None:
    url = await create_database(archiving, "template0")
    name = url.partition("?")[0].rpartition("/")[2]
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, RECIPIENTS)
    async with start_service(OUTCOMES_DATABASE_URL=url) as service:
        loading = asyncio.create_task(checker.load([service], 2 * BURST))
        await asyncio.to_thread(archiving.make_base_backup, archiving.folder / "base")
        await loading
        await service.put("/v1/feed/consumers/crm", json={"position": 5})
        until, before = datetime.now(UTC), set(checker.acknowledged)
        await checker.load([service], BURST)
        read = (await service.get("/v1/feed", params={"after": len(checker.acknowledged) - 1})).json()["next"]
        loading = asyncio.create_task(checker.load([service], BURST))
        await checker.wait_for(acknowledged=BURST // 2)
        archiving.kill()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    sent = set(range(1, checker.sent + 1))
    checker.unknown |= sent - checker.acknowledged - checker.refused

    # To the end: log that is not archived yet is in the log folder of the killed server.
    for segment in archiving.log_folder.glob("0*"):
        if not (target := archiving.folder / "archive" / segment.name).exists():
            shutil.copy(segment, target)
            archiving.own(target)
    whole = await asyncio.to_thread(recover, archiving)
    try:
        await wait_until_recovered(whole.url(name))
        async with start_service(OUTCOMES_DATABASE_URL=whole.url(name)) as service:
            # Nothing is lost, so all readers continue.
            page = await service.get("/v1/feed", params={"after": read})
            assert page.status_code == 200
            assert (await service.get("/v1/feed", params={"consumer": "crm"})).status_code == 200
            await checker.check(whole.url(name))
            await checker.send_again(service)
        await checker.check(whole.url(name))
    finally:
        whole.remove()

    # To a time.
    at = f"recovery_target_time = '{until.isoformat()}'"
    earlier = await asyncio.to_thread(recover, archiving, at, "recovery_target_action = 'promote'")
    try:
        await wait_until_recovered(earlier.url(name))
        checker.unknown |= checker.acknowledged - before
        checker.acknowledged = before
        done = await run(OUTCOMES, "restart-feed", OUTCOMES_DATABASE_URL=earlier.url(name))
        assert done.status == 0, done
        await checker.check(earlier.url(name))
        async with start_service(OUTCOMES_DATABASE_URL=earlier.url(name)) as service:
            for params in ({"after": read}, {"consumer": "crm"}):
                assert (await service.get("/v1/feed", params=params)).status_code == 409
            await checker.send_again(service)
            assert (await service.get("/v1/feed", params={"after": read})).status_code == 409
        await checker.check(earlier.url(name))
    finally:
        earlier.remove()
