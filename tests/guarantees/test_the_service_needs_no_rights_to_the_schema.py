"""The service does all its work as a role that owns nothing, and DDL, TRUNCATE and the like are refused."""

import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.privacy.retention import Retention
from service.store.database import Database, open_database
from service.telemetry.metrics import Metrics
from tests.factories import make_payload, phone_of, post_webhook, store_batch
from tests.processes import OUTCOMES, run, serve

ROLE = "outcomes_service"


@pytest.fixture
async def service_url(database: Database) -> AsyncIterator[str]:
    """The URL of the test's database for a role set up by `outcomes grant-service`."""
    role = f"{ROLE}_{urlsplit(database.url).path[1:]}"
    await database.pool.execute(f"CREATE ROLE {role} LOGIN")
    granted = await run(OUTCOMES, "grant-service", role, OUTCOMES_DATABASE_URL=database.url)
    assert (granted.status, granted.errors) == (0, "")
    yield database.url.replace("//postgres@", f"//{role}@")
    await database.pool.execute(f"DROP OWNED BY {role}")
    await database.pool.execute(f"DROP ROLE {role}")


async def test_the_role_receives_counts_verifies_rebuilds_and_erases(database: Database, service_url: str) -> None:
    await store_batch(database.url)
    settings = {"OUTCOMES_DATABASE_URL": service_url, "OUTCOMES_MIGRATE_ON_START": "0", "OUTCOMES_KEEP_AUDIT_DAYS": "9"}
    await database.pool.execute(
        "DROP TABLE event_bodies_default CASCADE"
    )  # so a partition for a future month is missing and is made
    await database.pool.execute("CREATE TABLE event_bodies_default PARTITION OF event_bodies DEFAULT")
    async with serve(**settings) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200
        for payload in (make_payload(recipient=1), make_payload(recipient=None, phone="+1999999999")):
            assert (await post_webhook(serving.client, payload)).status_code == 204
        assert (await post_webhook(serving.client, b"no JSON")).status_code == 204
        for path in ("/v1/batch-calls/456/outcomes", "/v1/batch-calls/456/recipients", "/v1/alarms", "/v1/audit"):
            assert (await serving.client.get(path)).status_code == 200
        erased = await serving.client.post("/v1/erasures", json={"phone": phone_of(1)})
        assert erased.json()["data"]["state"] == "done"
        log = serving.log
        assert await serving.end(signal.SIGTERM) == 0
    assert [line for line in log if line["level"] in {"warning", "error"} and "error" in line] == []
    for command in (("verify",), ("rebuild",), ("keys", "create", "one"), ("erase", phone_of(2))):
        done = await run(OUTCOMES, *command, **settings)
        assert done.status == 0, done.errors


async def test_the_role_makes_and_drops_partitions_of_bodies_without_owning_them(
    database: Database, service_url: str
) -> None:
    async with open_database(service_url, allow_unsafe=False) as served:
        await served.pool.execute("SELECT create_body_partitions('2020-01-01', 1)")
        assert await served.pool.fetchval("SELECT to_regclass('event_bodies_2020_01') IS NOT NULL")
        assert await Retention(served, Metrics(), {"bodies": 90}).forget_all() == {"bodies": 2}
        assert await served.pool.fetchval("SELECT to_regclass('event_bodies_2020_01') IS NULL")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE heartbeat",
        "ALTER TABLE events ADD COLUMN mine int",
        "TRUNCATE events",
        "DROP TABLE event_bodies_default",
        "ALTER FUNCTION ingest RENAME TO mine",
        "UPDATE audit_log SET actor = 'another actor'",
        "DELETE FROM audit_log",
        "SELECT key FROM erasure_key",
        "INSERT INTO schema_migrations VALUES ('9999')",
        "DELETE FROM schema_functions",
        "SELECT grant_service('postgres')",
        "SELECT forget_audit(now(), 1)",
        "COPY events TO PROGRAM 'cat'",
    ],
)
async def test_statements_that_the_service_does_not_need_are_refused(service_url: str, statement: str) -> None:
    connection = await asyncpg.connect(service_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_schema_of_the_role_cannot_shadow_the_schema_of_the_owners_functions(
    database: Database, service_url: str
) -> None:
    connection = await asyncpg.connect(service_url)
    try:
        # Without its own search path, such a function would find its objects here first.
        await connection.execute("CREATE TEMPORARY TABLE audit_log (audit_id bigint, recorded_at timestamptz)")
        await connection.execute("INSERT INTO pg_temp.audit_log VALUES (1, '2020-01-01')")
        assert await connection.fetchval("SELECT forget_audit('2021-01-01', 10)") == 0
    finally:
        await connection.close()


async def test_a_role_that_does_not_exist_is_reported(database: Database) -> None:
    done = await run(OUTCOMES, "grant-service", "nobody", OUTCOMES_DATABASE_URL=database.url)
    assert (done.status, "CREATE ROLE" in done.errors) == (2, True)
