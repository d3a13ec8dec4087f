"""A BI role that holds locks or tries to fill the disk stops nothing that the service does."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest

from service.app import prepare_schema
from service.errors import DatabaseError
from service.store.bi_roles import ROLES, list_role_bounds, set_up_role
from service.store.database import Database
from tests.bi.playing import as_role, drop_role, roles_set_up
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook, store_batch
from tests.locks import hold_ingest_lock
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run, serve
from tests.provider import CONTACTS, connect_provider, upload

ROOT = Path(__file__).parents[2]
LOCK_TABLES = (
    "ingest_lock", "body_partitions_lock", "uploads_lock", "rebuild_lock", "feed_consumers_lock", "api_keys_lock",
    "suppressions_lock",
    "agent_columns_locks", "migrations_lock",
)  # fmt: skip
MODES = ("ACCESS SHARE", "SHARE", "SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE")
ADVISORY_LOCKS = {
    "migrations/0023_lock_tables.sql": "says what earlier versions do",
    "functions/05_lock_ingest.sql": "excludes the functions of an earlier version while they still run",
    "functions/70_list_bi_role_bounds.sql": "refuses them to everyone",
    "queries/schema.sql": "names the query that ends that",
}


@pytest.fixture
async def url(database_url: str) -> AsyncIterator[str]:
    async with roles_set_up(database_url):
        yield database_url


@pytest.fixture
async def locked_url(database_url: str) -> AsyncIterator[str]:
    """A database in which a reader, not limited by a superuser, holds every advisory lock that any version used."""
    async with roles_set_up(database_url), as_role(database_url, "bi_reader") as reader:
        admin = await asyncpg.connect(database_url)
        await admin.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog TO bi_reader")
        for number in range(10):
            await reader.execute(f"SELECT pg_advisory_lock(7304564, {number})")
        await reader.execute("SELECT pg_advisory_lock(hashtextextended('agent_columns', 123))")
        yield database_url
        await admin.close()


async def test_webhooks_feed_and_commands_work_while_a_reader_holds_every_advisory_lock(locked_url: str) -> None:
    await store_batch(locked_url)
    settings = {"OUTCOMES_DATABASE_URL": locked_url}
    async with serve(**settings) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200
        assert (await post_webhook(serving.client, make_payload(recipient=1))).status_code == 204
        beyond = await serving.client.put("/v1/feed/consumers/crm", json={"position": 10**9})
        assert beyond.status_code == 409, beyond.text
        position = (await serving.client.get("/v1/feed?after=0")).json()["data"][-1]["position"]
        acknowledged = await serving.client.put("/v1/feed/consumers/crm", json={"position": position})
        assert acknowledged.status_code in {200, 204}, acknowledged.text
        assert await serving.end(signal.SIGTERM) == 0
    for command in (("migrate",), ("verify",), ("rebuild",), ("keys", "create", "one")):
        done = await run(OUTCOMES, *command, **settings)
        assert done.status == 0, done.errors


async def test_uploads_work_while_a_reader_holds_every_advisory_lock(
    locked_url: str, start_service: StartService
) -> None:
    async with connect_provider(start_service) as (service, _):
        sent = await upload(service, CONTACTS)
        assert sent.status_code in {200, 201, 202}, sent.text


async def test_a_service_is_unready_while_another_session_holds_the_ingest_lock_and_ready_after(
    service: httpx.AsyncClient, database_url: str
) -> None:
    holder = await asyncpg.connect(database_url)
    async with hold_ingest_lock(holder):
        unready = await service.get("/readyz")
        assert (unready.status_code, int(unready.headers["retry-after"]) > 0) == (503, True)
        assert "another session has held the ingest lock" in unready.json()["status"]
    await holder.close()
    # The service may cache the answer for a second.
    await eventually(lambda: service.get("/readyz"), lambda answer: answer.status_code == 200)


async def test_a_reader_can_lock_no_table(url: str) -> None:
    async with as_role(url, "bi_reader_full") as reader:
        await reader.execute("SET search_path = public; SET default_transaction_read_only = off")
        for table in LOCK_TABLES:
            for mode in MODES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await reader.execute(f"BEGIN; LOCK TABLE {table} IN {mode} MODE")
                await reader.execute("ROLLBACK")
        for mode in MODES[1:]:  # would lock the tables below the view
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(f"BEGIN; LOCK TABLE bi.batches IN {mode} MODE")
            await reader.execute("ROLLBACK")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_put(1, 0, 'x')",
        "SELECT lo_open(1, 131072)",
        "SELECT lowrite(0, 'x')",
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "CREATE TABLE public.mine (id int)",
        "SET temp_file_limit = -1",
        "SELECT lock_ingest()",
    ],
)
async def test_a_reader_can_store_nothing_on_the_servers_disk(url: str, role: str, statement: str) -> None:
    async with as_role(url, role) as reader:
        await reader.execute("SET default_transaction_read_only = off; SET search_path = public")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)
        assert await reader.fetchval("SELECT current_setting('temp_file_limit')") == "5GB"


@pytest.fixture
async def open_url(database_url: str) -> AsyncIterator[str]:
    """A database whose public schema was open to everyone, as before Postgres 15, when the roles were set up."""
    admin = await asyncpg.connect(database_url)
    await admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    async with roles_set_up(database_url):
        yield database_url
    await admin.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) AS n",
        "SELECT pg_advisory_xact_lock_shared(n) FROM generate_series(1, 1000000) AS n",
        "SELECT pg_try_advisory_lock(1, n) FROM generate_series(1, 1000000) AS n",
        "BEGIN; SAVEPOINT a; SELECT pg_logical_emit_message(true, 'x', 'y')",
        "CREATE TABLE public.mine (id int)",
        # Holds a lock on each of the thousands of functions, operators and types that it names.
        "SELECT pg_get_object_address('function', ARRAY['pg_catalog', 'now'], '{}')",
    ],
)
async def test_a_reader_cannot_fill_the_servers_lock_table(open_url: str, statement: str) -> None:
    async with as_role(open_url, "bi_reader") as reader:
        await reader.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)


async def test_the_service_runs_and_migrates_and_grants_are_renewed_with_every_limit_set(
    postgres: PostgresServer, empty_database_url: str
) -> None:
    admin = await asyncpg.connect(empty_database_url)
    name = await admin.fetchval("SELECT current_database()")
    owner, service = f"owner_{name}", f"service_{name}"
    await admin.execute(
        f'CREATE ROLE {owner} LOGIN; CREATE ROLE {service} LOGIN; ALTER DATABASE "{name}" OWNER TO {owner}'
    )
    owners = {"OUTCOMES_DATABASE_URL": empty_database_url.replace("postgres@", f"{owner}@")}
    services = {"OUTCOMES_DATABASE_URL": empty_database_url.replace("postgres@", f"{service}@")}
    try:
        assert (await run(OUTCOMES, "migrate", **owners)).status == 0
        assert (await run(OUTCOMES, "grant-service", service, **owners)).status == 0
        for statement in await list_role_bounds(admin, owner):
            if "temp_file_limit" not in statement:
                await admin.execute(statement)
        # Applies the functions again, as an upgrade does, which briefly takes the lock of earlier versions.
        await admin.execute("UPDATE schema_functions SET checksum = '' WHERE name = '05_lock_ingest'")
        migrated = await run(OUTCOMES, "migrate", **owners)
        assert migrated.status == 0, migrated.errors
        await store_batch(empty_database_url)
        async with serve(**services, OUTCOMES_MIGRATE_ON_START="0") as serving:
            assert (await post_webhook(serving.client, make_payload(recipient=1))).status_code == 204
            assert (await serving.client.get("/readyz")).status_code == 200
        for command in ("verify", "rebuild"):
            assert (await run(OUTCOMES, command, **services)).status == 0
        # If even our own roles may not take the lock of earlier versions, no earlier version runs as them.
        await admin.execute(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog FROM {owner}, {service}")
        await admin.execute("UPDATE schema_functions SET checksum = '' WHERE name = '05_lock_ingest'")
        migrated = await run(OUTCOMES, "migrate", **owners)
        assert migrated.status == 0, migrated.errors
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" OWNER TO postgres')
        await admin.execute(f"REASSIGN OWNED BY {owner} TO postgres")
        for role in (service, owner):
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await admin.close()


async def test_a_migration_interrupted_before_its_last_step_is_completed_before_the_service_starts(
    database: Database,
) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute((ROOT / "sql" / "functions" / "05_lock_ingest.sql").read_text())
        with pytest.raises(DatabaseError, match="run `outcomes migrate`"):
            await prepare_schema(database.url, may_migrate=False)
        await prepare_schema(database.url, may_migrate=True)
        await prepare_schema(database.url, may_migrate=False)


async def test_limits_that_our_role_may_not_set_are_printed_for_a_superuser(database: Database) -> None:
    admin = database.pool
    await admin.execute("CREATE ROLE half LOGIN CREATEROLE; GRANT pg_read_all_data TO half")
    await admin.execute("GRANT CREATE, USAGE ON SCHEMA bi, bi_full TO half WITH GRANT OPTION")
    await admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA bi TO half WITH GRANT OPTION")
    try:
        async with as_role(database.url, "half") as half:
            done = await set_up_role(half, "bi_reader", connections=2, statement_seconds=9, password="")
            assert done.unbounded == await list_role_bounds(half, "bi_reader")
        assert any("temp_file_limit" in statement for statement in done.unbounded)
        assert any("lo_create(" in statement for statement in done.unbounded)
        assert any(statement.startswith("REVOKE TEMPORARY, CREATE ON DATABASE") for statement in done.unbounded)
        async with admin.acquire() as connection:
            for statement in done.unbounded:
                await connection.execute(statement)
            assert await list_role_bounds(connection, "bi_reader") == []
    finally:
        async with admin.acquire() as connection:
            await connection.execute("DROP OWNED BY half CASCADE; DROP ROLE half")
            await drop_role(connection, "bi_reader")


def test_the_sql_takes_no_lock_that_anyone_can_hold() -> None:
    found = {
        str(path.relative_to(ROOT / "sql" if "sql" in path.parts else ROOT))
        for folder in ("sql", "service")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".sql", ".py"} and re.search(r"advisory", path.read_text(), re.IGNORECASE)
    }
    assert found == set(ADVISORY_LOCKS)


async def test_the_ingest_lock_of_the_current_schema_is_no_advisory_lock(database: Database) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT lock_ingest()")
        held = await connection.fetch("SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid()")
        assert "advisory" not in {row["locktype"] for row in held}


OLDER = """
CREATE OR REPLACE FUNCTION lock_ingest() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(7304564, 1)';
"""
"""The function as in the version before these tables."""


async def test_during_an_upgrade_old_and_new_functions_never_ingest_at_the_same_time(database: Database) -> None:
    text = (ROOT / "sql" / "functions" / "05_lock_ingest.sql").read_text()
    async with AsyncExitStack() as stack:
        older, newer, upgrade = [await stack.enter_async_context(database.pool.acquire()) for _ in range(3)]
        await upgrade.execute(OLDER)
        async with older.transaction():
            await older.execute("INSERT INTO heartbeat (id, beat_at) VALUES (1, now()); SELECT lock_ingest()")
            await upgrade.execute(text)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await upgrade.execute("SELECT finish_lock_change('50ms')")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await newer.execute("BEGIN; SET LOCAL lock_timeout = '50ms'; SELECT lock_ingest()")
            await newer.execute("ROLLBACK")
        async with newer.transaction():  # a writer of this version does not block it
            await newer.execute("SELECT lock_ingest()")
            await upgrade.execute("SELECT finish_lock_change('50ms')")
        held = await upgrade.fetchval("SELECT prosrc FROM pg_proc WHERE oid = 'lock_ingest()'::regprocedure")
        assert "advisory" not in held
    await prepare_schema(database.url, may_migrate=True)
