"""The service works as usual whatever the database sets as defaults of its sessions; what it cannot set is refused."""

import json
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.app import prepare_schema
from service.store.database import connect, open_database
from service.store.database_url import SESSION
from tests.conftest import create_database, drop_database, make_starter
from tests.factories import BATCH_ID, decode, make_payload, post_webhook, store_batch
from tests.pooling import set_defaults
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run
from tests.webhooks.ingesting import ingest

DEFAULTS = {
    "search_path": "elsewhere, public",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "transform_null_equals": "on",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "client_min_messages": "error",
    "TimeZone": "'Asia/Kolkata'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "'-15'",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "quote_all_identifiers": "on",
    "timezone_abbreviations": "'India'",
}
MORE_DEFAULTS = {
    "client_encoding": "LATIN1",
    "check_function_bodies": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
    "work_mem": "'64kB'",
    "default_text_search_config": "'pg_catalog.simple'",
    "lc_time": "'C'",
    "xmloption": "document",
    "escape_string_warning": "off",
    "synchronize_seqscans": "off",
}
"""What the service leaves as it is, and does not depend on."""


def test_every_setting_of_a_session_is_tried_with_another_value() -> None:
    assert DEFAULTS.keys() == SESSION.keys()


async def work(url: str) -> dict[str, object]:
    """Migrates, ingests, reads the outcomes and the feed, and verifies; returns what is read."""
    await prepare_schema(url, may_migrate=True)
    async with open_database(url, allow_unsafe=False) as database:
        schemas = await database.pool.fetch(
            "SELECT DISTINCT relnamespace::regnamespace::text AS name FROM pg_class WHERE relname = ANY($1)",
            ["events", "facts", "schema_migrations", "recipients"],
        )
        assert [row["name"].strip('"') for row in schemas] == ["public"]
        assert await database.pool.fetchval("SHOW client_encoding") == "UTF8"
    await store_batch_as_usual(url)
    async with make_starter(url)() as client:
        for payload in (
            make_payload(recipient=1, attempt=1, status="busy", final=False, event_id="e1"),
            make_payload(recipient=1, attempt=2, results={"intent": "वादा", "amount": 1.5}, event_id="e2"),
            make_payload(recipient=2, event_id="e3"),
        ):
            assert (await post_webhook(client, payload)).status_code == 204
        outcomes = (await client.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).json()["data"]
        feed = (await client.get("/v1/feed")).json()["data"]
        recipients = (await client.get(f"/v1/batch-calls/{BATCH_ID}/recipients")).json()["data"]
    verified = await run(OUTCOMES, "verify", OUTCOMES_DATABASE_URL=url)
    assert verified.status == 0, verified
    for row in recipients:
        del row["trace_id"]  # the factory numbers it
    return {"outcomes": outcomes, "feed": feed, "recipients": recipients}


async def store_batch_as_usual(url: str) -> None:
    """``store_batch`` by a session that the defaults of the database do not reach."""
    settings = "%20".join(f"-c%20{name}={value.replace(' ', '%5C%20')}" for name, value in SESSION.items())
    await store_batch(f"{url}&options={settings}")


def drop_times(report: object) -> object:
    """Without times."""
    return json.loads(json.dumps(report), object_hook=lambda found: {
        name: value for name, value in found.items() if not name.endswith(("_at", "as_of", "position", "cursor"))
    })  # fmt: skip


async def test_a_database_with_all_defaults_changed_reads_as_one_without(
    postgres: PostgresServer, empty_database_url: str
) -> None:
    usual_url = await create_database(postgres, "template0")
    usual = await work(usual_url)
    await drop_database(postgres, usual_url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE SCHEMA elsewhere")
    await connection.close()
    await set_defaults(empty_database_url, **MORE_DEFAULTS)
    await set_by_server(postgres, empty_database_url, DEFAULTS)
    assert drop_times(await work(empty_database_url)) == drop_times(usual)


async def set_by_server(server: PostgresServer, url: str, settings: dict[str, str]) -> None:
    """``set_defaults`` from another database, whose sessions they do not reach."""
    connection = await asyncpg.connect(server.url("postgres"))
    name = urlsplit(url).path[1:]
    for setting, value in settings.items():
        await connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
    await connection.close()


@pytest.mark.parametrize("name", sorted(DEFAULTS))
async def test_a_default_changed_under_an_installation_changes_nothing(
    postgres: PostgresServer, database_url: str, name: str
) -> None:
    await store_batch(database_url)
    await set_by_server(postgres, database_url, {name: DEFAULTS[name]})
    async with open_database(database_url, allow_unsafe=False) as database:
        first = decode(make_payload(recipient=1, event_id="e1"))
        assert (await ingest(database, *first)).applied == 1
        assert (await ingest(database, *first)).duplicates == 1
        async with database.snapshot() as connection:
            assert await connection.fetchval("SELECT count(*) FROM facts") == 1
        rows = database.queries.list_server_settings(database.pool, names=[name])
        assert [row["setting"] async for row in rows] == [SESSION[name]]


async def test_a_warning_of_a_commit_in_doubt_arrives_whatever_the_database_hides(
    postgres: PostgresServer, database_url: str
) -> None:
    await set_by_server(postgres, database_url, {"client_min_messages": "error"})
    connection = await connect(database_url)
    severities: list[str | None] = []
    connection.add_log_listener(lambda _, message: severities.append(message.severity_en))
    await connection.execute("DO $$ BEGIN RAISE WARNING 'the standby may lack it'; END $$")
    await connection.close()
    assert severities == ["WARNING"]
