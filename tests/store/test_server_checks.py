"""A server that may lose a commit it has confirmed is refused with the remedy, or used with a loud warning."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog.testing

from service.errors import DatabaseError
from service.store.database import open_database
from tests.conftest import create_database
from tests.postgres import PostgresServer, find_programs


@pytest.fixture(scope="module")
def careless_url() -> Iterator[str]:
    """A server with unsafe settings."""
    server = PostgresServer(find_programs())
    server.start("-c", "fsync=off", "-c", "full_page_writes=off")
    yield server.url("postgres")
    server.remove()


@pytest.fixture
async def hasty_url(postgres: PostgresServer, empty_database_url: str) -> str:
    """A database on a good server that confirms commits before they are durable."""
    name = urlsplit(empty_database_url).path[1:]
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await connection.close()
    return empty_database_url


async def test_a_server_as_it_comes_is_taken_without_a_warning(empty_database_url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_database(empty_database_url, allow_unsafe=False) as database:
            assert await database.pool.fetchval("SHOW timezone") == "UTC"
    assert logs == []


async def test_fsync_off_is_refused_with_the_harm_and_the_remedy(careless_url: str) -> None:
    with pytest.raises(DatabaseError) as refused:
        async with open_database(careless_url, allow_unsafe=False):
            pass
    assert str(refused.value) == (
        "The database has fsync off: a crash of the machine loses what was acknowledged, or all of it. Set fsync = on "
        "(for this role, database or server), or OUTCOMES_ALLOW_UNSAFE_DATABASE=1 to accept the loss"
    )


async def test_synchronous_commit_off_is_refused_where_only_this_database_has_it(
    hasty_url: str, postgres: PostgresServer
) -> None:
    with pytest.raises(DatabaseError, match=r"synchronous_commit off: .* Set synchronous_commit = on"):
        async with open_database(hasty_url, allow_unsafe=False):
            pass
    async with open_database(postgres.url("postgres"), allow_unsafe=False):
        pass


async def test_synchronous_commit_off_is_refused_where_only_this_role_has_it(
    postgres: PostgresServer, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute("CREATE ROLE hasty LOGIN; ALTER ROLE hasty SET synchronous_commit = off")
    try:
        url = empty_database_url.replace("postgres@", "hasty@")
        with pytest.raises(DatabaseError, match="synchronous_commit off"):
            async with open_database(url, allow_unsafe=False):
                pass
    finally:
        await connection.execute("DROP ROLE hasty")
        await connection.close()


@pytest.mark.parametrize("value", ["local", "on", "remote_apply"])
async def test_every_synchronous_commit_that_waits_for_the_own_disk_is_taken(
    postgres: PostgresServer, value: str
) -> None:
    url = await create_database(postgres, "template0")
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {value}')
        async with open_database(url, allow_unsafe=False) as database:
            assert await database.pool.fetchval("SHOW synchronous_commit") == value
    finally:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.close()


async def test_unsafe_settings_are_taken_loudly_where_that_was_allowed(careless_url: str, hasty_url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_database(careless_url, allow_unsafe=True) as database:
            assert await database.pool.fetchval("SHOW fsync") == "off"
        async with open_database(hasty_url, allow_unsafe=True):
            pass
    assert [(log["event"], log["setting"], log["log_level"]) for log in logs] == [
        ("database_unsafe", "fsync", "warning"),
        ("database_unsafe", "full_page_writes", "warning"),
        ("database_unsafe", "synchronous_commit", "warning"),
    ]
