"""Migrations beside what goes on: they hold up nobody, and the version before may start again meanwhile."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import structlog.testing

from service.errors import DatabaseError
from service.store import migrations
from service.store.database import connect, find_sql_folder
from service.store.migrations import check_schema, migrate
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook, store_batch

SQL = find_sql_folder()
NEXT = "-- migrate:up\nALTER TABLE facts ADD COLUMN next text;\n"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'facts'::regclass"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with the schema of this version."""
    opened = await connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The SQL files of a later version."""
    folder = tmp_path / "sql"
    shutil.copytree(SQL, folder)
    return folder


class Versions:
    """Lets this process be one version or the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, later: Path) -> None:
        self._monkeypatch = monkeypatch
        self._later = later

    def be(self, release: str) -> None:
        """The later version has the later files."""
        folder = self._later if release == "0.10.0" else SQL
        self._monkeypatch.setattr(migrations, "find_sql_folder", lambda: folder)
        self._monkeypatch.setattr(migrations, "version", lambda package: release)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch, later: Path) -> Versions:
    """At first the earlier one."""
    made = Versions(monkeypatch, later)
    made.be("0.9.1")
    return made


def change_a_function(later: Path) -> None:
    path = later / "functions" / "10_status_rank.sql"
    path.write_text(path.read_text().replace("{unreachable,no_answer,", "{no_answer,unreachable,"))


async def test_the_version_before_starts_on_a_schema_that_says_it_can(
    connection: asyncpg.Connection, later: Path, versions: Versions
) -> None:
    newest = max(path.name for path in (SQL / "migrations").iterdir())[:4]
    (later / "migrations" / "9998_a.sql").write_text(f"-- compatible-from: {newest}\n{NEXT}")
    (later / "migrations" / "9999_b.sql").write_text(f"-- compatible-from: 0001\n{NEXT.replace('next', 'last')}")
    change_a_function(later)
    versions.be("0.10.0")
    assert len((await migrate(connection)).migrations) == 2
    versions.be("0.9.1")
    with structlog.testing.capture_logs() as logs:
        assert await migrate(connection) == ([], [])  # nor are its own functions put in place of the newer ones
        await check_schema(connection)
    assert [(line["event"], line["migration"]) for line in logs] == [("schema_ahead", "9998, 9999")] * 2
    assert await connection.fetchval("SELECT status_rank('no_answer')") == 1


@pytest.mark.parametrize("marker", ["", "-- compatible-from: 9998\n"])
async def test_it_does_not_start_on_one_that_does_not_say_so(
    connection: asyncpg.Connection, later: Path, versions: Versions, marker: str
) -> None:
    (later / "migrations" / "9998_a.sql").write_text(marker + NEXT)
    (later / "migrations" / "9999_b.sql").write_text(f"-- compatible-from: 0001\n{NEXT.replace('next', 'last')}")
    versions.be("0.10.0")
    await migrate(connection)
    versions.be("0.9.1")
    for use in (migrate, check_schema):
        with pytest.raises(DatabaseError, match=r"ahead of this version of the service \(it has 9998, 9999\)"):
            await use(connection)


async def test_a_version_that_lacks_some_and_is_behind_in_others_is_refused(
    connection: asyncpg.Connection, later: Path, versions: Versions
) -> None:
    (later / "migrations" / "9999_b.sql").write_text(f"-- compatible-from: 0001\n{NEXT}")
    versions.be("0.10.0")
    await migrate(connection)
    (later / "migrations" / "9999_b.sql").rename(later / "migrations" / "9998_a.sql")
    with pytest.raises(DatabaseError, match="it has 9999"):
        await migrate(connection)


async def test_functions_are_those_of_the_newest_version_whichever_restarts(
    connection: asyncpg.Connection, later: Path, versions: Versions
) -> None:
    change_a_function(later)
    versions.be("0.10.0")
    assert [file.name for file in (await migrate(connection)).functions] == ["10_status_rank"]
    versions.be("0.9.1")
    with structlog.testing.capture_logs() as logs:
        assert await migrate(connection) == ([], [])
        await check_schema(connection)
    assert [line["event"] for line in logs] == ["functions_ahead"] * 2
    assert await connection.fetchval("SELECT status_rank('no_answer')") == 1
    versions.be("0.10.0")
    assert await migrate(connection) == ([], [])


async def test_records_of_a_version_before_these_are_taken_over(connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE schema_migrations DROP COLUMN compatible_from")
    await connection.execute("ALTER TABLE schema_functions DROP COLUMN release")
    with pytest.raises(DatabaseError, match="run `outcomes migrate`"):
        await check_schema(connection)
    assert await migrate(connection) == ([], [])
    await check_schema(connection)


async def test_webhooks_are_taken_while_a_migration_waits_for_its_lock(
    start_service: StartService, database_url: str, later: Path, versions: Versions
) -> None:
    (later / "migrations" / "9998_a.sql").write_text(NEXT)
    await store_batch(database_url)
    reader, migrator = await connect(database_url), await connect(database_url)
    async with start_service() as service:
        versions.be("0.10.0")
        reading = reader.transaction()
        await reading.start()
        await reader.fetchval("SELECT count(*) FROM facts")
        migrating = asyncio.create_task(migrate(migrator))
        for number in range(1, 4):
            await eventually(lambda: reader.fetchval(WAITING))  # it queues up, and all others behind it
            assert not migrating.done()
            began = time.monotonic()
            assert (await post_webhook(service, make_payload(recipient=number))).status_code == 204
            assert time.monotonic() - began < 10  # seconds: the provider's patience
        assert not migrating.done()
        await reading.commit()
        assert [file.name for file in (await migrating).migrations] == ["9998_a"]
    await reader.close()
    await migrator.close()


async def test_a_migration_that_never_gets_its_lock_gives_up_and_has_changed_nothing(
    connection: asyncpg.Connection, database_url: str, later: Path, versions: Versions
) -> None:
    (later / "migrations" / "9998_a.sql").write_text(NEXT)
    versions.be("0.10.0")
    reader = await connect(database_url)
    reading = reader.transaction()
    await reading.start()
    await reader.fetchval("SELECT count(*) FROM facts")
    with pytest.raises(DatabaseError, match=r"9998_a: could not acquire a lock .*pg_stat_activity"):
        await migrate(connection, lock_seconds=1.5)
    await reader.close()
    assert len((await migrate(connection)).migrations) == 1


async def test_an_index_is_built_concurrently_and_again_after_a_failure(
    connection: asyncpg.Connection, later: Path, versions: Versions
) -> None:
    (later / "migrations" / "9998_a.sql").write_text(
        "-- migrate:up transaction:false\n"
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS heartbeat_a ON heartbeat ((1));\n"
    )
    versions.be("0.10.0")
    await connection.execute("ALTER TABLE heartbeat DROP CONSTRAINT IF EXISTS heartbeat_id_check")
    await connection.execute("INSERT INTO heartbeat (id, beat_at) VALUES (1, now()), (2, now())")
    with pytest.raises(asyncpg.UniqueViolationError):
        await migrate(connection)
    assert not await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'heartbeat_a'::regclass")
    await connection.execute("DELETE FROM heartbeat")
    assert [file.name for file in (await migrate(connection)).migrations] == ["9998_a"]
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'heartbeat_a'::regclass")
