"""A database that cannot serve is refused before its first table is made, with one sentence that says what to do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.app import prepare_schema
from service.errors import DatabaseError
from tests.commands.refusing import assert_refused
from tests.conftest import drop_database
from tests.pooling import needs_pooler, pool, set_defaults
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run, serve

COMMANDS = ("serve", "migrate", "verify")


async def list_relations(url: str) -> list[str]:
    """What was made in the database, in any schema."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT relname FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'i', 'v')")
    await connection.close()
    return [row["relname"] for row in rows]


async def assert_every_command_refuses(url: str, *words: str) -> None:
    for finished in await asyncio.gather(*(run(OUTCOMES, command, OUTCOMES_DATABASE_URL=url) for command in COMMANDS)):
        assert_refused(finished, *words)


@pytest.fixture
async def owner_url(postgres: PostgresServer, empty_database_url: str) -> AsyncIterator[str]:
    """An empty database, by a role that may only connect."""
    role = f"visitor {urlsplit(empty_database_url).path[1:]}"
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute(f'CREATE ROLE "{role}" LOGIN')
    yield empty_database_url.replace("//postgres@", f"//{role.replace(' ', '%20')}@")
    await connection.close()
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    await connection.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_a_database_that_is_not_utf_8_is_refused(postgres: PostgresServer, encoding: str) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    name = f"test_{encoding.lower()}"
    await connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    await connection.close()
    url = postgres.url(name)
    await assert_every_command_refuses(url, f"encoding is {encoding}", "ENCODING 'UTF8'")
    assert await list_relations(url) == []
    await drop_database(postgres, url)


async def test_each_right_that_a_role_lacks_is_named(empty_database_url: str, owner_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(DatabaseError) as refused:
        await prepare_schema(owner_url, may_migrate=True)
    commands = str(refused.value).partition(" run ")[2].split("; ")
    assert [command.partition(" TO ")[0].rpartition(" ON ")[0] for command in commands] == [
        "GRANT CREATE", "GRANT USAGE, CREATE"
    ]  # fmt: skip
    finished = await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=owner_url)
    assert_refused(finished, *commands)
    assert await list_relations(empty_database_url) == []
    await connection.execute("DROP SCHEMA public")
    with pytest.raises(DatabaseError, match="run CREATE SCHEMA public; "):
        await prepare_schema(owner_url, may_migrate=True)
    await connection.execute("CREATE SCHEMA public")
    for command in commands:
        await connection.execute(command)
    await connection.close()
    await prepare_schema(owner_url, may_migrate=True)


async def test_a_current_schema_takes_no_right_to_make_tables(database_url: str) -> None:
    role = f"server_{urlsplit(database_url).path[1:]}"
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE ROLE {role} LOGIN; SELECT grant_service('{role}')")
    url = database_url.replace("//postgres@", f"//{role}@")
    try:
        await prepare_schema(url, may_migrate=False)
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


async def test_a_role_without_any_right_to_the_schema_is_refused_in_a_sentence(database_url: str) -> None:
    role = f"stranger_{urlsplit(database_url).path[1:]}"
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    url = database_url.replace("//postgres@", f"//{role}@")
    try:
        await assert_every_command_refuses(url, "lacks a right", "outcomes grant-service")
    finally:
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()


async def test_sessions_without_triggers_are_refused(empty_database_url: str) -> None:
    await set_defaults(empty_database_url, session_replication_role="replica")
    await assert_every_command_refuses(empty_database_url, "session_replication_role = replica", "= origin")
    assert await list_relations(empty_database_url) == []


@needs_pooler
@pytest.mark.parametrize("more", ["", "server_round_robin = 1", "default_pool_size = 1", "min_pool_size = 3"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_shares_servers_is_refused(
    postgres: PostgresServer, empty_database_url: str, tmp_path: Path, mode: str, more: str
) -> None:
    await set_defaults(empty_database_url, search_path="public, pg_temp", timezone="UTC")
    async with pool(postgres, tmp_path, mode, more=more) as address:
        url = f"{address}{urlsplit(empty_database_url).path}"
        finished = await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=url)
    assert_refused(finished, "A pooler in transaction mode", "connect to Postgres itself")
    assert await list_relations(empty_database_url) == []


@needs_pooler
async def test_a_session_pooler_serves_once_it_was_set_up_as_each_refusal_says(
    postgres: PostgresServer, empty_database_url: str, tmp_path: Path
) -> None:
    path = urlsplit(empty_database_url).path
    await set_defaults(empty_database_url, datestyle="German")
    folders = [tmp_path / name / "pooler" for name in ("refusing", "dropping", "passing")]
    for folder in folders:
        folder.mkdir(parents=True)
    async with pool(postgres, folders[0], "session", ignored=["extra_float_digits"]) as address:
        refused = await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=address + path)
    assert_refused(refused, "A pooler refuses the settings", "connect to Postgres itself", "ignore_startup_parameters")
    ignored = refused.errors.strip().partition("ignore_startup_parameters = ")[2].split(", ")
    async with pool(postgres, folders[1], "session", ignored=ignored) as address:
        refused = await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=address + path)
        assert_refused(refused, "A pooler drops the settings", "SET search_path = public, pg_temp", "SET DateStyle")
    assert await list_relations(empty_database_url) == []
    for command in refused.errors.strip().partition(" or run ")[2].removesuffix(" and restart it").split("; "):
        name, _, value = command.removeprefix("ALTER ROLE … SET ").partition(" = ")
        await set_defaults(empty_database_url, **{name: value})
    async with (
        pool(postgres, folders[2], "session", ignored=ignored) as address,
        serve(OUTCOMES_DATABASE_URL=address + path) as serving,
    ):
        assert (await serving.client.get("/readyz")).status_code == 200
