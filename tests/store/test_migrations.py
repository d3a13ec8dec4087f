"""Migrations: a database is brought up to this version once, however many try, and never past what it knows."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.app import open_app, prepare_schema
from service.errors import DatabaseError
from service.settings import read_settings
from service.store import migrations
from service.store.database import connect, find_sql_folder
from service.store.migrations import check_schema, migrate, read_functions, read_migrations

SQL = find_sql_folder()


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database without a schema."""
    opened = await connect(empty_database_url)
    yield opened
    await opened.close()


@pytest.fixture
def sql_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files that a test may edit, as a later version of the service would."""
    folder = tmp_path / "sql"
    shutil.copytree(SQL, folder)
    monkeypatch.setattr(migrations, "find_sql_folder", lambda: folder)
    return folder


def names_of(files: list[migrations.SqlFile]) -> list[str]:
    return [file.name for file in files]


async def list_objects(connection: asyncpg.Connection) -> set[tuple[Any, ...]]:
    """Tables, indexes and sequences, each with its columns."""
    rows = await connection.fetch(
        """
        SELECT c.relkind::text, c.relname, array_agg(a.attname || ' ' || a.atttypid::regtype ORDER BY a.attnum)
                   FILTER (WHERE a.attnum > 0)::text
        FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace
        GROUP BY c.oid
        """
    )
    return {tuple(row) for row in rows}


async def test_a_fresh_database_gets_every_migration_and_function(connection: asyncpg.Connection) -> None:
    applied = await migrate(connection)
    assert names_of(applied.migrations) == names_of(read_migrations())
    assert names_of(applied.functions) == names_of(read_functions())
    await check_schema(connection)
    recorded = await connection.fetch("SELECT version, checksum FROM schema_migrations ORDER BY version")
    assert [tuple(row) for row in recorded] == [(file.name[:4], file.checksum) for file in read_migrations()]


async def test_a_second_run_applies_nothing(connection: asyncpg.Connection) -> None:
    await migrate(connection)
    before = await connection.fetch("SELECT version, applied_at FROM schema_migrations ORDER BY 1")
    assert await migrate(connection) == ([], [])
    assert await connection.fetch("SELECT version, applied_at FROM schema_migrations ORDER BY 1") == before


async def test_migrators_that_start_together_take_turns(empty_database_url: str) -> None:
    connections = [await connect(empty_database_url) for _ in range(4)]
    try:
        async with asyncio.timeout(20):
            applied = await asyncio.gather(*[migrate(connection) for connection in connections])
        assert sorted(len(state.migrations) for state in applied) == [0, 0, 0, len(read_migrations())]
        assert (
            await connections[0].fetchval("SELECT count(*) FROM pg_locks WHERE relation = 'migrations_lock'::regclass")
            == 0
        )
    finally:
        for connection in connections:
            await connection.close()


async def test_a_migration_that_fails_leaves_nothing_and_lets_the_next_migrator_in(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    broken = sql_folder / "migrations" / "0002_batches.sql"
    text = broken.read_text()
    broken.write_text(text.replace("-- migrate:down", "SELECT no_such_function();\n-- migrate:down"))
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('batches')") is None
    broken.write_text(text)
    assert names_of((await migrate(connection)).migrations) == names_of(read_migrations())[1:]


async def test_a_schema_that_is_ahead_is_refused_with_what_to_do(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    (sql_folder / "migrations" / "9999_future.sql").write_text("-- migrate:up\nCREATE TABLE future ();\n")
    await migrate(connection)
    (sql_folder / "migrations" / "9999_future.sql").unlink()
    for use in (migrate, check_schema):
        with pytest.raises(
            DatabaseError, match=r"ahead of this version .*it has 9999.*run the newer version, or restore"
        ):
            await use(connection)


async def test_a_migration_that_was_edited_after_it_ran_is_refused_by_name(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    await migrate(connection)
    edited = sql_folder / "migrations" / "0002_batches.sql"
    edited.write_text(edited.read_text().replace("integer", "bigint"))
    for use in (migrate, check_schema):
        with pytest.raises(DatabaseError, match=r"0002_batches was changed after it was applied: restore the file"):
            await use(connection)


async def test_a_schema_that_is_behind_is_reported_with_the_command_to_run(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    with pytest.raises(DatabaseError, match="no schema yet: run `outcomes migrate`"):
        await check_schema(connection)
    await migrate(connection)
    (sql_folder / "migrations" / "9998_next.sql").write_text("-- migrate:up\nCREATE TABLE next ();\n")
    (sql_folder / "functions" / "99_next.sql").write_text(
        "CREATE FUNCTION next_one() RETURNS integer LANGUAGE sql AS 'SELECT 1';\n"
    )
    with pytest.raises(DatabaseError, match=r"behind this version \(9998_next, 99_next\): run `outcomes migrate`"):
        await check_schema(connection)
    applied = await migrate(connection)
    assert (names_of(applied.migrations), names_of(applied.functions)) == (["9998_next"], ["99_next"])
    await check_schema(connection)


async def test_a_function_whose_text_changed_is_applied_again_and_no_other(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    await migrate(connection)
    path = sql_folder / "functions" / "10_status_rank.sql"
    path.write_text(path.read_text().replace("{unreachable,no_answer,", "{no_answer,unreachable,"))
    assert names_of((await migrate(connection)).functions) == ["10_status_rank"]
    assert await connection.fetchval("SELECT status_rank('no_answer')") == 1
    assert await migrate(connection) == ([], [])


async def test_the_views_for_bi_tools_are_applied_together_when_one_changed_or_they_were_dropped(
    connection: asyncpg.Connection, sql_folder: Path
) -> None:
    await migrate(connection)
    views = [name for name in names_of(read_functions()) if name.startswith("bi/")]
    path = sql_folder / "bi" / "10_batches.sql"
    path.write_text(path.read_text() + "\nCOMMENT ON VIEW bi.batches IS 'Changed.';\n")
    assert names_of((await migrate(connection)).functions) == views
    assert await connection.fetchval("SELECT obj_description('bi_full.batches'::regclass)") == "Changed."
    assert await migrate(connection) == ([], [])
    await connection.execute("DROP SCHEMA bi CASCADE")
    with pytest.raises(DatabaseError, match="bi/10_batches"):
        await check_schema(connection)
    assert names_of((await migrate(connection)).functions) == views
    await check_schema(connection)


async def test_a_database_that_dbmate_migrated_is_taken_over(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)")
    for file in read_migrations():
        await connection.execute(file.text)
        await connection.execute("INSERT INTO schema_migrations (version) VALUES ($1)", file.name[:4])
    applied = await migrate(connection)
    assert applied.migrations == []
    assert names_of(applied.functions) == names_of(read_functions())
    await check_schema(connection)


async def test_every_migrations_down_part_undoes_its_up_part(connection: asyncpg.Connection) -> None:
    before = [await list_objects(connection)]
    for file in read_migrations():
        await connection.execute(file.text)
        before.append(await list_objects(connection))
        changes_rows = file.text.startswith(("UPDATE ", "INSERT ")) or "VALIDATE CONSTRAINT" in file.text
        assert before[-1] != before[-2] or changes_rows, f"{file.name} makes nothing"
    for file in reversed(read_migrations()):
        _, marker, down = (SQL / "migrations" / f"{file.name}.sql").read_text().partition("-- migrate:down\n")
        assert marker, f"{file.name} has no down part"
        before.pop()
        await connection.execute(down)
        assert await list_objects(connection) == before[-1], f"{file.name} leaves something behind"


def test_migrations_are_numbered_without_gaps() -> None:
    assert [file.name[:5] for file in read_migrations()] == [f"{n:04}_" for n in range(1, len(read_migrations()) + 1)]


def test_a_file_without_an_up_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_x.sql").write_text("CREATE TABLE x ();")
    with pytest.raises(DatabaseError, match=r"0001_x.sql has no line '-- migrate:up'"):
        read_migrations(tmp_path)


def test_the_down_part_is_never_run_on_the_way_up() -> None:
    assert not any("DROP TABLE" in file.text for file in read_migrations())


async def test_a_service_configured_not_to_migrate_only_checks(empty_database_url: str) -> None:
    settings = read_settings({"OUTCOMES_MIGRATE_ON_START": "0", "FORMANT_WEBHOOK_SECRET": "secret"})
    with pytest.raises(DatabaseError, match="no schema yet: run `outcomes migrate`"):
        async with open_app(settings, empty_database_url):
            pass
    await prepare_schema(empty_database_url, may_migrate=True)
    async with open_app(settings, empty_database_url):
        pass


async def test_a_service_migrates_on_start_unless_configured_otherwise(empty_database_url: str) -> None:
    async with open_app(read_settings({"FORMANT_WEBHOOK_SECRET": "secret"}), empty_database_url):
        await prepare_schema(empty_database_url, may_migrate=False)
