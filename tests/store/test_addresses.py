"""Addresses that psql connects with connect the service too, or are refused by the parameter's name."""

import asyncio
import shutil
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog.testing

from service.app import prepare_schema
from service.doctor.findings import Level
from service.errors import ConfigurationError
from service.store.database import connect, open_database
from tests.commands.refusing import assert_refused
from tests.doctor.examining import examine, find_one
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run, serve
from tests.provider import find_free_port

TAKEN = (
    "channel_binding=prefer", "connect_timeout=9", "keepalives=1&keepalives_idle=30&keepalives_count=3",
    "tcp_user_timeout=9000", "gssencmode=disable", "krbsrvname=postgres", "sslcompression=0", "sslsni=1",
    "ssl_min_protocol_version=TLSv1.3", "application_name=mine", "fallback_application_name=mine",
    "options=-c%20geqo%3Doff", "client_encoding=auto", "replication=false", "target_session_attrs=read-write",
    "sslmode=disable", "sslmode=prefer", "passfile=/nowhere/pgpass", "user=postgres",
)  # fmt: skip
UNUSABLE = {
    "options=-c%20no_such_setting%3D1": "no_such_setting",
    "options=-c%20geqo%3Dperhaps": "geqo",
    "options=--nonsense": "nonsense",
    "options=-c%20max_connections%3D5": "max_connections",
}
"""What only Postgres can refuse."""


@pytest.mark.parametrize("query", TAKEN)
async def test_what_psql_takes_is_taken(database_url: str, query: str) -> None:
    url = f"{database_url}&{query}"
    if psql := shutil.which("psql"):
        report = await run(psql, url, "-Atqc", "SELECT 1")
        assert (report.status, report.output) == (0, "1\n"), report
    await prepare_schema(url, may_migrate=False)
    async with open_database(url, allow_unsafe=False) as database:
        assert await database.pool.fetchval("SHOW application_name") == "outcomes"
        assert await database.pool.fetchval("SHOW geqo") == ("off" if "geqo" in query else "on")
        assert await database.pool.fetchval("SHOW client_encoding") == "UTF8"


async def test_options_do_not_reach_what_the_service_sets_itself(database_url: str) -> None:
    url = f"{database_url}&options=-c%20search_path%3Dpg_catalog%20-c%20geqo%3Doff"
    connection = await connect(url)
    assert await connection.fetchval("SHOW search_path") == "public, pg_temp"
    assert await connection.fetchval("SHOW geqo") == "off"
    await connection.close()


async def test_what_is_ignored_is_logged_once_by_name(database_url: str) -> None:
    url = f"{database_url}&keepalives=1&application_name=secret-name&options=-c%20TimeZone%3DAsia/Kolkata"
    with structlog.testing.capture_logs() as logs:
        await prepare_schema(url, may_migrate=False)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("database_parameters_ignored", "warning")
    assert [part.partition(": ")[0] for part in line["reason"].split("; ")] == [
        "application_name", "keepalives", "options TimeZone"
    ]  # fmt: skip
    assert "secret-name" not in str(line)
    async with serve(OUTCOMES_DATABASE_URL=url) as serving:
        (report,) = (line for line in serving.log if line["event"] == "database_parameters_ignored")
    assert report["reason"] == line["reason"]


@pytest.mark.parametrize("query", UNUSABLE)
async def test_an_option_that_postgres_refuses_is_not_taken_for_silence(database_url: str, query: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await prepare_schema(f"{database_url}&{query}", may_migrate=False)
    assert str(refused.value).startswith("Postgres refuses options of OUTCOMES_DATABASE_URL (")
    assert UNUSABLE[query] in str(refused.value)


@pytest.mark.parametrize("command", ["serve", "migrate", "verify"])
async def test_a_parameter_that_cannot_be_honoured_stops_every_command(database_url: str, command: str) -> None:
    url = f"{database_url}&channel_binding=require"
    assert_refused(await run(OUTCOMES, command, OUTCOMES_DATABASE_URL=url), "channel_binding", "sslmode=verify-full")
    misspelled = await run(OUTCOMES, command, OUTCOMES_DATABASE_URL=f"{database_url}&keepalive=1")
    assert_refused(misspelled, "did you mean keepalives?")


async def test_the_doctor_names_the_parameter_and_the_remedy(database_url: str) -> None:
    findings = await examine(f"{database_url}&require_auth=scram-sha-256")
    found = find_one(findings, "database.answer", Level.PROBLEM)
    assert ("require_auth" in found.message + found.remedy, "pg_hba.conf" in found.remedy) == (True, True)
    findings = await examine(f"{database_url}&options=-c%20no_such_setting%3D1")
    assert "no_such_setting" in find_one(findings, "database.answer", Level.PROBLEM).message


async def test_of_several_hosts_the_one_that_answers_is_taken(postgres: PostgresServer, database_url: str) -> None:
    name = urlsplit(database_url).path[1:]
    hosts = f"postgresql://postgres@/{name}?host=127.0.0.1,{postgres.folder}&port={find_free_port()},5432"
    connection = await connect(f"{hosts}&connect_timeout=9&keepalives=1")
    assert await connection.fetchval("SELECT current_database()") == name
    await connection.close()


async def test_a_server_that_takes_connections_and_says_nothing_is_left_after_connect_timeout() -> None:
    is_left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        is_left.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            await connect(f"postgresql://bob@127.0.0.1:{port}/x?connect_timeout=1")
        assert loop.time() - began < 4
        await is_left.wait()


async def test_a_host_that_is_gone_without_a_word_keeps_nobody_from_the_others(
    postgres: PostgresServer, database_url: str
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    name = urlsplit(database_url).path[1:]
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        silent = server.sockets[0].getsockname()[1]
        url = f"postgresql://postgres@/{name}?host=127.0.0.1,127.0.0.1,{postgres.folder}&port={silent},{silent},5432"
        connection = await connect(f"{url}&connect_timeout=1")
        assert await connection.fetchval("SELECT current_database()") == name
        await connection.close()
        async with open_database(f"{url}&connect_timeout=1", allow_unsafe=False) as database:
            assert await database.pool.fetchval("SELECT current_database()") == name


async def test_if_no_host_answers_the_error_says_more_than_that_one_is_a_standby(postgres: PostgresServer) -> None:
    url = f"postgresql://postgres@/none_such?host={postgres.folder},127.0.0.1&port=5432,{find_free_port()}"
    with pytest.raises((asyncpg.InvalidCatalogNameError, OSError)):
        await connect(url)
