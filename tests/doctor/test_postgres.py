"""A server with everything wrong, and servers with one thing wrong: each is found, with its remedy."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from service.app import prepare_schema
from service.doctor.examination import Result
from service.doctor.findings import Level, Thresholds
from service.doctor.postgres import check_storage
from service.store.database import Database, open_unchecked_database
from tests.conftest import create_database, drop_database
from tests.doctor.examining import examine, find, find_one
from tests.eventually import eventually
from tests.postgres import PostgresServer, find_programs, require_standby

CARELESS = (
    "fsync=off", "full_page_writes=off", "autovacuum=off", "max_wal_size=256MB", "transaction_timeout=9s",
    "max_prepared_transactions=5", "max_connections=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def careless() -> list[Result]:
    """The findings of a server with careless settings and leftovers."""
    server = PostgresServer(find_programs())
    server.start(*(part for option in CARELESS for part in ("-c", option)))
    with asyncio.Runner() as runner:
        findings = runner.run(leave_things_behind(server))
    server.remove()
    return findings


async def leave_things_behind(server: PostgresServer) -> list[Result]:
    url = await create_database(server, "template0")
    await prepare_schema(url, may_migrate=True)
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE facts SET (autovacuum_enabled = off)")
    await connection.execute("BEGIN; CREATE TABLE forgotten (); PREPARE TRANSACTION 'left-behind'")
    await connection.execute("SELECT pg_create_physical_replication_slot('nobody', true)")
    await connection.close()
    return await examine(url, limits={"prepared_seconds": 0.0, "frozen_age_transactions": (1, 2**40)})


def test_settings_that_lose_what_was_acknowledged_are_problems(careless: list[Result]) -> None:
    found = find(careless, "database.durability")
    assert [finding.level for finding in found] == [Level.PROBLEM, Level.PROBLEM]
    assert [finding.remedy.split()[1] for finding in found] == ["fsync", "full_page_writes"]


def test_without_autovacuum_tables_grow(careless: list[Result]) -> None:
    assert find_one(careless, "database.vacuum", Level.PROBLEM).remedy == "Set autovacuum = on"
    left, age = [finding for finding in find(careless, "database.vacuum") if finding.level is Level.WARNING]
    assert (left.message, "RESET" in left.remedy) == ("Autovacuum skips: facts", True)
    assert "VACUUM (FREEZE)" in age.remedy


def test_checkpoints_that_come_too_often_are_reported(careless: list[Result]) -> None:
    assert "4GB" in find_one(careless, "database.wal", Level.WARNING).remedy


def test_time_limits_that_end_our_work_are_reported(careless: list[Result]) -> None:
    found = find_one(careless, "database.timeouts", Level.WARNING)
    assert "transaction_timeout = 9 s" in found.message
    assert "ALTER ROLE" in found.remedy


def test_too_few_connections_for_one_replica_is_a_problem(careless: list[Result]) -> None:
    found = find_one(careless, "database.connections", Level.PROBLEM)
    assert "up to 18 connections" in found.message
    assert "max_connections" in found.remedy


def test_prepared_transactions_that_were_left_are_reported(careless: list[Result]) -> None:
    found = find_one(careless, "database.prepared", Level.WARNING)
    assert "left-behind" in found.message
    assert "ROLLBACK PREPARED" in found.remedy


def test_a_slot_that_nobody_reads_is_reported(careless: list[Result]) -> None:
    found = find_one(careless, "database.slots", Level.WARNING)
    assert "nothing reads it" in found.message
    assert "pg_drop_replication_slot('nobody')" in found.remedy


async def test_synchronous_commit_off_is_found_where_only_this_database_has_it(database: Database) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    found = find_one(await examine(database.url), "database.durability", Level.PROBLEM)
    assert "synchronous_commit = on" in found.remedy


async def test_a_standby_that_is_missing_means_that_nothing_is_acknowledged(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE committed (number integer)")
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (elsewhere)'")
    await connection.execute("SELECT pg_reload_conf()")
    # Commits wait once the checkpointer has read the setting too.
    await eventually(lambda: is_waiting(connection))
    findings = await examine(
        url, limits={"commit_seconds": (0.1, 0.2)}, FORMANT_API_KEY="x", FORMANT_BASE_URL="http://127.0.0.1:9"
    )
    found = find_one(findings, "database.standby", Level.PROBLEM)
    assert "nothing is acknowledged" in found.message
    assert "synchronous_standby_names" in found.remedy
    assert "nothing is acknowledged" in find_one(findings, "database.commit", Level.PROBLEM).message
    assert "does not answer" in find_one(findings, "provider.answer", Level.PROBLEM).message, "and the rest goes on"
    await connection.execute("ALTER SYSTEM SET synchronous_commit = local")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    found = find_one(await examine(url), "database.standby", Level.WARNING)
    assert "does not wait" in found.message


async def is_waiting(connection: asyncpg.Connection) -> bool:
    """Whether a commit waits for a standby."""
    try:
        await connection.execute("INSERT INTO committed VALUES (1)", timeout=0.2)
    except TimeoutError:
        return True
    return False


async def test_a_standby_that_follows_is_ok_only_if_commits_wait_for_it(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    standby = await asyncio.to_thread(own_postgres.make_standby)
    await asyncio.to_thread(standby.start)
    connection = await asyncpg.connect(url)
    await eventually(lambda: connection.fetchval("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"))
    found = find_one(await examine(url), "database.standby", Level.WARNING)
    assert ("commits wait for none" in found.message, "synchronous_standby_names" in found.remedy) == (True, True)
    await require_standby(url)
    await connection.execute("CREATE ROLE blind LOGIN")
    await connection.close()
    assert "1 synchronous" in find_one(await examine(url), "database.standby", Level.OK).message
    blind = await examine(url.replace("//postgres@", "//blind@"))
    assert "this role cannot see" in find_one(blind, "database.standby", Level.UNCHECKED).message
    await asyncio.to_thread(standby.remove)


async def test_an_encoding_that_lacks_names_is_a_problem(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    await connection.close()
    url = postgres.url("latin")
    async with open_unchecked_database(url, connections=1, statement_seconds=5, application_name="test") as database:
        found = (await check_storage(database, datetime.now(UTC)))[0]
    await drop_database(postgres, url)
    assert (found.level, "UTF8" in found.remedy) == (Level.PROBLEM, True)
    assert Thresholds().check_seconds == 10
