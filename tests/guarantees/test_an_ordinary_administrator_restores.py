"""A backup is restored by a role that may make databases and nothing else, whether or not it owned the old one."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.factories import make_payload, post_webhook, store_batch
from tests.guarantees.backups import back_up, run_script
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, run, serve

ROLES = ("CREATE ROLE keeper LOGIN CREATEDB", "CREATE ROLE other LOGIN CREATEDB", "CREATE ROLE outcomes_service LOGIN")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of its own, since roles belong to the whole server."""
    server = PostgresServer(find_programs())
    try:
        server.start()
        yield server
    finally:
        server.remove()


def address(server: PostgresServer, role: str, database: str) -> str:
    return server.url(database).replace("postgres@", f"{role}@")


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.timeout(300)  # each script starts several processes
async def test_a_role_with_createdb_restores_without_warnings_and_the_service_runs(
    server: PostgresServer, tmp_path: Path
) -> None:
    await execute(server.url("postgres"), *ROLES)
    await execute(address(server, "keeper", "postgres"), "CREATE DATABASE old TEMPLATE template0")
    owner, service = (address(server, role, "old") for role in ("keeper", "outcomes_service"))
    for command in (["migrate"], ["grant-service", "outcomes_service"]):
        done = await run(OUTCOMES, *command, OUTCOMES_DATABASE_URL=owner)
        assert done.status == 0, done
    await store_batch(owner, 3)
    async with serve(OUTCOMES_DATABASE_URL=service, OUTCOMES_MIGRATE_ON_START="0") as serving:
        assert (await post_webhook(serving.client, make_payload(recipient=1))).status_code == 204
    backup = await back_up(owner, tmp_path)
    for role in ("keeper", "other"):
        await execute(address(server, role, "postgres"), f"CREATE DATABASE new_{role} TEMPLATE template0")
        new = address(server, role, f"new_{role}")
        done = await run_script("restore.sh", backup, url=new, ERASURES="none")
        assert (done.status, done.output[:18]) == (0, "restored: 1 events"), done
        assert "WARNING" not in done.errors, done.errors
        assert ("another role owned the schema" in done.errors) == (role == "other")
        granted = await run(OUTCOMES, "grant-service", "outcomes_service", OUTCOMES_DATABASE_URL=new)
        assert granted.status == 0, granted
        service = address(server, "outcomes_service", f"new_{role}")
        async with serve(OUTCOMES_DATABASE_URL=service, OUTCOMES_MIGRATE_ON_START="0") as serving:
            assert (await post_webhook(serving.client, make_payload(recipient=2))).status_code == 204
