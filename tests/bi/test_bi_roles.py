"""The BI roles can read only their schema, no phones, and for a limited time. The tests connect as these roles."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.errors import ConfigurationError, DatabaseError
from service.store.bi_roles import ROLES, list_role_changes, set_shown, set_up_role, to_scram_verifier
from service.store.database import Database, load_queries
from tests.bi.playing import as_role, drop_role, roles_set_up
from tests.conftest import create_database
from tests.factories import decode, make_payload, phone_of, store_batch
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run
from tests.webhooks.ingesting import ingest

TABLES = ("recipients", "facts", "outcomes", "batches", "event_bodies", "events", "quarantine", "bi_fields")
RESULTS = {
    "intent": "promise_to_pay",
    "promised_at": "2026-03-20T10:00:00",
    "amount": 29000,
    "callback": "please ring +91 98765 43210",
    "mobile": 9876543210,
    "mail": "rahul@example.com",
    "summary": "x" * 81,
    "address": "12 Lake Road",
}


@pytest.fixture
async def url(database: Database, database_url: str) -> AsyncIterator[str]:
    """A database with both roles and a batch of two recipients, the first of whom was called."""
    await store_batch(database_url, 2)
    await ingest(database, *decode(make_payload(results=RESULTS)))
    async with roles_set_up(database_url):
        yield database_url


async def test_a_reader_reads_every_view_without_naming_the_schema(url: str) -> None:
    for role in ROLES:
        async with as_role(url, role) as reader:
            views = await reader.fetch(
                "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
            )
            assert len(views) == 11
            for view in views:
                await reader.fetch(f"SELECT * FROM {view['name']}")


async def test_a_reader_sees_no_schema_but_its_own(url: str) -> None:
    for role, schemas in (("bi_reader", ["bi"]), ("bi_reader_full", ["bi", "bi_full"])):
        async with as_role(url, role) as reader:
            seen = await reader.fetch(
                "SELECT DISTINCT table_schema FROM information_schema.tables "
                "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
            )
            assert [row["table_schema"] for row in seen] == schemas


@pytest.mark.parametrize("role", ROLES)
async def test_reading_the_tables_is_refused(url: str, role: str) -> None:
    async with as_role(url, role) as reader:
        await reader.execute("SET search_path = public; SET default_transaction_read_only = off")
        for table in TABLES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM {table}")
        for call in ("attempts_of('{1}', '{1}', NULL)", "set_parameters(1, 1, '{}')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM {call}")


@pytest.mark.parametrize("role", ROLES)
async def test_writing_is_refused_even_after_asking_for_a_writable_session(url: str, role: str) -> None:
    statements = (
        "UPDATE bi.recipient_outcomes SET state = 'completed'",
        "DELETE FROM bi.batches",
        "INSERT INTO public.bi_fields VALUES ('parameter', 'loan_id', true)",
        "CREATE TABLE bi.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
    )
    async with as_role(url, role) as reader:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("CREATE TEMP TABLE mine ()")
        await reader.execute("SET default_transaction_read_only = off")
        for statement in statements:
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
                await reader.execute(statement)


async def test_the_full_views_are_refused_to_the_masked_role(url: str) -> None:
    async with as_role(url, "bi_reader") as reader:
        for view in ("recipient_outcomes", "call_attempts", "batches"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM bi_full.{view}")


async def test_phones_and_parameters_are_masked_for_one_role_and_shown_to_the_other(url: str) -> None:
    phone = phone_of(1)
    for view in ("recipient_outcomes", "call_attempts"):
        query = f"SELECT phone, parameters FROM {view} WHERE recipient = 1"
        async with as_role(url, "bi_reader") as reader:
            (row,) = await reader.fetch(query)
            assert (row["phone"], json.loads(row["parameters"])) == ("+91*******001", {"loan_id": None})
            assert phone not in str(await reader.fetch(f"SELECT * FROM {view}"))
        async with as_role(url, "bi_reader_full") as reader:
            (row,) = await reader.fetch(query)
            assert (row["phone"], json.loads(row["parameters"])) == (phone, {"loan_id": "LN-1"})


async def test_parameters_can_be_shown_and_results_hidden(url: str, database: Database) -> None:
    async with database.pool.acquire() as connection:
        await set_shown(connection, "parameter", ("loan_id",), is_shown=True)
        lines = await set_shown(connection, "result", ("address",), is_shown=False)
    assert lines == ["parameter loan_id: shown", "result address: hidden"]
    async with as_role(url, "bi_reader") as reader:
        (row,) = await reader.fetch("SELECT parameters, results FROM call_attempts")
        assert json.loads(row["parameters"]) == {"loan_id": "LN-1"}
        assert json.loads(row["results"])["address"] == "(hidden)"
        assert await reader.fetchval("SELECT value FROM batch_results WHERE name = 'address'") == "(hidden)"
    async with database.pool.acquire() as connection:
        await set_shown(connection, "parameter", ("loan_id",), is_shown=False)
    async with as_role(url, "bi_reader") as reader:
        assert json.loads(await reader.fetchval("SELECT parameters FROM call_attempts")) == {"loan_id": None}


async def test_categories_are_shown_and_personal_data_in_results_is_masked(url: str) -> None:
    shown = {
        "intent": "promise_to_pay",
        "promised_at": "2026-03-20T10:00:00",
        "amount": 29000,
        "callback": "please ring (masked)",
        "mobile": "(masked)",
        "mail": "(masked)",
        "summary": "(long text)",
        "address": "12 Lake Road",
    }
    async with as_role(url, "bi_reader") as reader:
        for view in ("recipient_outcomes", "call_attempts"):
            assert json.loads(await reader.fetchval(f"SELECT results FROM {view} WHERE recipient = 1")) == shown
        counted = await reader.fetch("SELECT name, value FROM batch_results")
        assert {row["name"]: row["value"] for row in counted} == shown | {"amount": "29000"}
    async with as_role(url, "bi_reader_full") as reader:
        assert json.loads(await reader.fetchval("SELECT results FROM call_attempts")) == RESULTS


async def test_a_function_of_the_reader_never_receives_a_phone(url: str) -> None:
    """The classic leak: a cheap function in WHERE, which the planner would run first, reports its arguments."""
    notices: list[str] = []
    owner = await asyncpg.connect(url)
    await owner.execute(
        await owner.fetchval("SELECT format('GRANT TEMPORARY ON DATABASE %I TO bi_reader', current_database())")
    )
    await owner.close()
    async with as_role(url, "bi_reader") as reader:
        reader.add_log_listener(lambda _, message: notices.append(message.message))
        await reader.execute("SET default_transaction_read_only = off")
        await reader.execute(
            """
            CREATE FUNCTION pg_temp.leak(content text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
            AS $$ BEGIN RAISE NOTICE '%', content; RETURN true; END $$;
            """
        )
        for view in ("recipient_outcomes", "call_attempts"):
            await reader.fetch(
                f"SELECT * FROM {view} WHERE pg_temp.leak(phone) AND pg_temp.leak(parameters::text) "
                f"AND pg_temp.leak(results::text) AND pg_temp.leak({view}::text)"
            )
    assert "+91*******001" in notices
    assert not any(phone_of(1)[3:] in message or "LN-1" in message or "9876543210" in message for message in notices)


async def test_a_long_statement_is_cancelled(database_url: str) -> None:
    async with roles_set_up(database_url, statement_seconds=1), as_role(database_url, "bi_reader") as reader:
        with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
            await reader.fetch("SELECT pg_sleep(30)")


async def test_the_role_has_the_given_limits(database: Database, database_url: str) -> None:
    async with roles_set_up(database_url):
        async with as_role(database_url, "bi_reader") as reader:
            names = ("default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout",
                     "lock_timeout", "random_page_cost", "jit", "search_path")  # fmt: skip
            assert [await reader.fetchval("SELECT current_setting($1)", name) for name in names] == [
                "on", "1min", "1min", "5s", "1.1", "off", "bi",
            ]  # fmt: skip
        async with database.pool.acquire() as connection:
            await set_up_role(connection, "bi_reader", connections=1, statement_seconds=60, password="")
        async with as_role(database_url, "bi_reader"):
            with pytest.raises(asyncpg.TooManyConnectionsError):
                async with as_role(database_url, "bi_reader"):
                    pass


async def test_setting_up_again_changes_nothing_or_repairs_manual_changes(
    database: Database, database_url: str
) -> None:
    async with roles_set_up(database_url), database.pool.acquire() as connection:

        async def list_changes() -> list[str]:
            return await list_role_changes(connection, "bi_reader", connections=20, statement_seconds=60, verifier=None)

        assert await list_changes() == []
        await connection.execute("ALTER ROLE bi_reader RESET statement_timeout; ALTER ROLE bi_reader NOLOGIN")
        assert await list_changes() == [
            "ALTER ROLE bi_reader LOGIN CONNECTION LIMIT 20",
            "ALTER ROLE bi_reader SET statement_timeout = '60s'",
        ]
        await set_up_role(connection, "bi_reader", connections=20, statement_seconds=60, password="")
        assert await list_changes() == []


async def test_a_role_with_more_rights_is_refused_with_the_reason(database: Database, database_url: str) -> None:
    async with roles_set_up(database_url), database.pool.acquire() as connection:
        for grant, revoke, message in (
            ("GRANT SELECT ON facts TO bi_reader", "REVOKE SELECT ON facts FROM bi_reader", "has rights on facts"),
            ("GRANT pg_write_all_data TO bi_reader", "REVOKE pg_write_all_data FROM bi_reader", "has rights on"),
            ("ALTER ROLE bi_reader SUPERUSER", "ALTER ROLE bi_reader NOSUPERUSER", "is a superuser"),
        ):
            await connection.execute(grant)
            with pytest.raises(DatabaseError, match=message):
                await set_up_role(connection, "bi_reader", connections=7, statement_seconds=60, password="")
            await connection.execute(revoke)
        assert await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'bi_reader'") == 20


async def test_without_the_right_to_make_roles_the_error_names_the_command_for_an_administrator(
    database: Database, database_url: str
) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("CREATE ROLE plain LOGIN")
        await connection.execute("GRANT pg_read_all_data TO plain")
        try:
            async with as_role(database_url, "plain") as plain:
                with pytest.raises(DatabaseError, match=r"CREATEROLE.*outcomes bi role --print"):
                    await set_up_role(plain, "bi_reader", connections=20, statement_seconds=60, password="")
            assert not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = 'bi_reader'")
        finally:
            await drop_role(connection, "plain")


async def test_the_statements_printed_for_an_administrator_make_the_role(database: Database, database_url: str) -> None:
    finished = await run(OUTCOMES, "bi", "role", "--print", OUTCOMES_DATABASE_URL=database_url)
    statements, password = finished.output.rstrip().rsplit("\n", 1)
    assert (finished.status, password) == (0, "\\password bi_reader")
    async with database.pool.acquire() as connection:
        try:
            await connection.execute(statements)
            again = await run(OUTCOMES, "bi", "role", OUTCOMES_DATABASE_URL=database_url)
            assert (again.status, again.output) == (0, "bi_reader was already set up.\n"), again.errors
            async with as_role(database_url, "bi_reader") as reader:
                assert await reader.fetch("SELECT * FROM batches") == []
        finally:
            await drop_role(connection, "bi_reader")


async def test_new_and_recreated_views_can_be_read_at_once(database: Database, database_url: str) -> None:
    async with roles_set_up(database_url), database.pool.acquire() as connection:
        await connection.execute("DROP SCHEMA bi, bi_full CASCADE")
        assert (await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=database_url)).status == 0
        async with as_role(database_url, "bi_reader_full") as reader:
            assert await reader.fetch("SELECT * FROM bi_full.batches UNION SELECT * FROM bi.batches") == []


async def test_the_password_works_and_is_in_no_log(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    access = own_postgres.folder / "data" / "pg_hba.conf"
    access.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    admin = await asyncpg.connect(url)
    await admin.execute("ALTER SYSTEM SET log_statement = 'all'")
    await admin.fetch("SELECT pg_reload_conf()")
    assert (await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=url)).status == 0
    secret = "s3cret ~!'\\ word"
    made = await run(OUTCOMES, "bi", "role", OUTCOMES_DATABASE_URL=url, OUTCOMES_BI_PASSWORD=secret)
    assert (made.status, made.output) == (0, "bi_reader is set up.\n"), made.errors
    reader = await asyncpg.connect(url, user="bi_reader", password=secret)
    assert await reader.fetch("SELECT * FROM batches") == []
    await reader.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, user="bi_reader", password="wrong")
    await admin.close()
    assert "s3cret" not in Path(own_postgres.folder / "log").read_text() + made.errors


def test_a_password_that_would_need_normalisation_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OUTCOMES_BI_PASSWORD takes printable ASCII"):
        to_scram_verifier("pässword")


def test_the_verifier_matches_the_example_of_rfc_7677() -> None:
    assert to_scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


async def test_names_can_be_shown_and_hidden_from_the_command_line(database: Database, database_url: str) -> None:
    shown = await run(OUTCOMES, "bi", "show", "city", "language", OUTCOMES_DATABASE_URL=database_url)
    assert (shown.status, shown.output) == (0, "parameter city: shown\nparameter language: shown\n"), shown.errors
    hidden = await run(OUTCOMES, "bi", "hide", "--result", "address", OUTCOMES_DATABASE_URL=database_url)
    assert hidden.output.splitlines()[-1] == "result address: hidden"
    assert [dict(row) async for row in load_queries().list_bi_fields(database.pool)] == [
        {"kind": "parameter", "name": "city", "is_shown": True},
        {"kind": "parameter", "name": "language", "is_shown": True},
        {"kind": "result", "name": "address", "is_shown": False},
    ]
