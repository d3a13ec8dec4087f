"""Who holds the database back is found: transactions left open, poolers in between, too many connections."""

import asyncio
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.doctor.connection import check_encryption, check_pooler
from service.doctor.findings import Level
from service.settings import read_settings
from service.store.database import WRITERS, Database, count_connections, load_queries, open_unchecked_database
from tests.certificates import make_certificate
from tests.doctor.examining import examine, find, find_one
from tests.eventually import eventually
from tests.pooling import needs_pooler, pool, set_defaults
from tests.postgres import PostgresServer, find_programs
from tests.provider import find_free_port

SECURED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's; where there is none, it is left out
AT_ONCE = {"idle_seconds": (0.0, 900.0), "transaction_seconds": (0.0, 900.0)}


async def test_transactions_that_hold_vacuum_back_are_reported_with_how_to_end_them(database_url: str) -> None:
    idle = await asyncpg.connect(database_url, server_settings={"application_name": "a report"})
    busy = await asyncpg.connect(database_url)
    await idle.execute("BEGIN; SELECT count(*) FROM events")
    sleeping = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
    watching = await asyncpg.connect(database_url)
    await eventually(
        lambda: watching.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')")
    )
    report = find(await examine(database_url, limits=AT_ONCE), "database.sessions")
    assert [finding.level for finding in report] == [Level.WARNING, Level.WARNING]
    assert ("has been idle" in report[0].message, "program a report" in report[0].message) == (True, True)
    assert report[0].remedy.endswith(f"pg_terminate_backend({idle.get_server_pid()})")
    assert "has run for" in report[1].message
    assert str(busy.get_server_pid()) in report[1].remedy
    for_long = find(await examine(database_url, limits={**AT_ONCE, "idle_seconds": (0.0, 0.0)}), "database.sessions")
    assert for_long[0].level is Level.PROBLEM
    usual = find(await examine(database_url), "database.sessions")
    assert [finding.level for finding in usual] == [Level.OK]
    await watching.execute("SELECT pg_terminate_backend($1)", busy.get_server_pid())
    await asyncio.gather(sleeping, return_exceptions=True)
    await asyncio.gather(idle.close(), watching.close())


async def test_a_rebuild_is_not_taken_for_a_transaction_that_holds_vacuum_back(database: Database) -> None:
    async with database.pool.acquire() as session, session.transaction():
        await database.queries.lock_rebuild(session)
        assert find_one(await examine(database.url, limits=AT_ONCE), "database.sessions", Level.OK)


async def test_what_a_role_may_not_see_is_said_to_be_not_visible(database: Database) -> None:
    role = f"blind_{urlsplit(database.url).path[1:]}"
    await database.pool.execute(f"CREATE ROLE {role} LOGIN; SELECT grant_service('{role}')")
    idle = await asyncpg.connect(database.url)
    await idle.execute("BEGIN")
    findings = await examine(database.url.replace("//postgres@", f"//{role}@"), limits=AT_ONCE)
    await idle.close()
    await database.pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    found = find_one(findings, "database.sessions", Level.UNCHECKED)
    assert "This role cannot see" in found.message
    assert "pg_read_all_stats" in found.remedy
    failed = [report for report in findings if "itself failed" in report.finding.message]
    assert failed == []
    assert [report for report in findings if report.finding.level is Level.PROBLEM] == []


async def test_a_limit_of_the_role_or_the_database_counts_too(database: Database) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 30')
    found = find_one(await examine(database.url), "database.connections", Level.WARNING)
    assert "room for 1 replicas" in found.message
    assert "CONNECTION LIMIT" in found.remedy
    await database.pool.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 17')
    assert find_one(await examine(database.url), "database.connections", Level.PROBLEM)
    found = find_one(await examine(database.url, OUTCOMES_MAX_EXPORTS="3"), "database.connections", Level.WARNING)
    assert "up to 17 connections" in found.message


def test_the_number_of_connections_is_that_of_the_code() -> None:
    source = (Path(__file__).parents[2] / "service" / "app.py").read_text()
    assert source.count("new_writer") - 1 == WRITERS
    assert count_connections(read_settings({})) == 18


@needs_pooler
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_that_hands_sessions_around_is_found(
    postgres: PostgresServer, database_url: str, tmp_path: Path, mode: str
) -> None:
    await set_defaults(database_url, search_path="public, pg_temp", timezone="UTC")
    async with pool(postgres, tmp_path, mode) as address:
        findings = await examine(f"{address}{urlsplit(database_url).path}")
    report = find(findings, "database.pooler") or find(findings, "database.answer")
    if mode == "session":
        assert [finding.level for finding in report] == [Level.OK]
        assert find_one(findings, "database.session", Level.OK)
    else:
        (found,) = report
        assert (found.level, "transaction mode" in found.message) == (Level.PROBLEM, True)
        assert "past the pooler" in found.remedy


@needs_pooler
async def test_a_pooler_is_found_where_no_statement_gets_lost_too(
    postgres: PostgresServer, database_url: str, tmp_path: Path
) -> None:
    async with pool(postgres, tmp_path, "transaction") as address:
        url = f"{address}{urlsplit(database_url).path}"
        # Without a cache of statements, as behind a pooler that keeps track of them.
        async with asyncpg.create_pool(url, min_size=0, max_size=2, statement_cache_size=0) as connections:
            (found,) = await check_pooler(Database(url, connections, load_queries()))
    assert (found.level, "one session has two servers" in found.message) == (Level.PROBLEM, True)
    assert "pool_mode = session" in found.remedy


async def test_a_remote_database_without_tls_is_reported(database: Database) -> None:
    (found,) = await check_encryption(database, "postgresql://service:pass-word@db.example,db2.example/outcomes")
    assert (found.level, "not encrypted" in found.message) == (Level.WARNING, True)
    assert "sslmode=verify-full" in found.remedy
    for local in ("postgresql:///x?host=/run", "postgresql://postgres@localhost:5432/x", "postgresql://[::1]/x"):
        (found,) = await check_encryption(database, local)
        assert found.level is Level.OK, local


@pytest.mark.skipif(not SECURED or not shutil.which("openssl"), reason="the wheel's Postgres was built without TLS")
async def test_tls_that_nobody_checks_is_reported(tmp_path: Path) -> None:
    find_programs()  # sees to the user that it runs as
    server = PostgresServer(SECURED[0])
    certificate, key = make_certificate(server.folder, "server", "IP:127.0.0.1")
    key.chmod(0o600)
    server.own(key)
    port = find_free_port()
    files = ("-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}")
    server.start("-h", "127.0.0.1", "-p", str(port), *files)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={certificate}"
    try:
        async with open_unchecked_database(url, connections=1, statement_seconds=5, application_name="t") as database:
            (checked,) = await check_encryption(database, url.replace("127.0.0.1", "db.example"))
            (unchecked,) = await check_encryption(database, "postgresql://db.example/x?sslmode=require")
    finally:
        server.remove()
    assert (checked.level, checked.message.startswith("TLSv1.")) == (Level.OK, True)
    assert (unchecked.level, "not verified" in unchecked.message) == (Level.WARNING, True)


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("postgresql://bob:pass-word@127.0.0.1:1/x", "that Postgres runs"),
        ("postgresql://bob:pass-word@127.0.0.1:no-port/x", "It takes postgresql://"),
    ],
)
async def test_a_database_that_is_down_is_reported_and_the_rest_goes_on(address: str, remedy: str) -> None:
    findings = await examine(address, FORMANT_API_KEY="some-key", FORMANT_BASE_URL="http://127.0.0.1:9")
    assert remedy in find_one(findings, "database.answer", Level.PROBLEM).remedy
    assert "checks left out" in find_one(findings, "database", Level.UNCHECKED).message
    assert find_one(findings, "configuration.data_dir", Level.OK)
    assert find_one(findings, "provider.answer", Level.PROBLEM)
    assert "pass-word" not in str(findings)


async def test_a_database_that_is_not_there_and_one_without_a_free_connection_are_distinguished(
    postgres: PostgresServer, database: Database
) -> None:
    found = find_one(await examine(postgres.url("not_there")), "database.answer", Level.PROBLEM)
    assert found.message == "There is no such database"
    name = await database.pool.fetchval("SELECT current_database()")
    role = f"many_{name}"
    await database.pool.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    url = database.url.replace("//postgres@", f"//{role}@")
    found = find_one(await examine(url), "database.answer", Level.PROBLEM)
    assert (found.message, "max_connections" in found.remedy) == ("It has no free connection", True)
    await database.pool.execute(f"DROP ROLE {role}")


async def test_opening_asks_nothing_yet() -> None:
    address = "postgresql://127.0.0.1:1/x"
    async with open_unchecked_database(address, connections=1, statement_seconds=1, application_name="t") as opened:
        with pytest.raises(OSError, match="Connect"):
            await opened.pool.fetchval("SELECT 1")
