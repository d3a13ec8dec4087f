"""A schema that does not fit, rights that lack or are too many, months that are missing, clocks that are off."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from service.doctor.findings import Level
from service.store.database import Database
from tests.bi.playing import roles_set_up
from tests.doctor.examining import examine, find, find_one
from tests.processes import OUTCOMES, run


async def test_a_database_without_a_schema_is_reported_and_nothing_fails(empty_database_url: str) -> None:
    findings = await examine(empty_database_url, FORMANT_API_KEY="x", FORMANT_BASE_URL="http://127.0.0.1:9")
    assert find_one(findings, "database.schema", Level.PROBLEM).remedy == "Run `outcomes migrate`"
    assert find_one(findings, "database.commit", Level.PROBLEM).remedy == "Run `outcomes migrate`"
    assert find_one(findings, "work.alarms", Level.UNCHECKED).remedy == "Run `outcomes migrate`"
    assert [report for report in findings if "itself failed" in report.finding.message] == []
    assert find_one(findings, "provider.answer", Level.PROBLEM), "asked without the budget"


async def test_a_schema_ahead_and_one_behind_have_other_remedies(database: Database) -> None:
    await database.pool.execute("INSERT INTO schema_migrations (version) VALUES ('9999')")
    found = find_one(await examine(database.url), "database.schema", Level.PROBLEM)
    assert ("9999" in found.message, "newer version" in found.remedy) == (True, True)
    await database.pool.execute("DELETE FROM schema_migrations WHERE version = '9999'")
    await database.pool.execute("UPDATE schema_functions SET checksum = '' WHERE name = '40_ingest'")
    found = find_one(await examine(database.url), "database.schema", Level.PROBLEM)
    assert ("40_ingest" in found.message, found.remedy) == (True, "Run `outcomes migrate`")


async def test_roles_with_too_few_and_too_many_rights_are_reported(database: Database) -> None:
    name = urlsplit(database.url).path[1:]
    role, owner = f"poor_{name}", f"owner_{name}"
    await database.pool.execute(f"CREATE ROLE {role} LOGIN; CREATE ROLE {owner} LOGIN")
    url = database.url.replace("//postgres@", f"//{role}@")
    found = find_one(await examine(url), "database.role", Level.PROBLEM)
    assert f"{role} lacks rights to" in found.message
    assert found.remedy == f"As the owner: outcomes grant-service {role}"
    assert [report for report in await examine(url) if "itself failed" in report.finding.message] == []
    assert (await run(OUTCOMES, "grant-service", role, OUTCOMES_DATABASE_URL=database.url)).status == 0
    assert "owns nothing" in find_one(await examine(url), "database.role", Level.OK).message
    await database.pool.execute(f"REVOKE UPDATE ON outcomes FROM {role}")
    found = find_one(await examine(url), "database.role", Level.PROBLEM)
    assert "outcomes (UPDATE)" in found.message
    await database.pool.execute(f"ALTER TABLE events OWNER TO {owner}; SELECT grant_service('{owner}')")
    findings = await examine(database.url.replace("//postgres@", f"//{owner}@"))
    assert "owns the tables" in find_one(findings, "database.role", Level.WARNING).message
    found = find_one(await examine(database.url), "database.role", Level.WARNING)
    assert ("superuser" in found.message, "grant-service" in found.remedy) == (True, True)
    await database.pool.execute(f"ALTER TABLE events OWNER TO postgres; DROP OWNED BY {role}, {owner}")
    await database.pool.execute(f"DROP ROLE {role}, {owner}")


async def test_a_bi_role_that_can_use_up_the_server_is_reported_until_it_is_set_up_again(database: Database) -> None:
    async with roles_set_up(database.url):
        assert "Limited: bi_reader, " in find_one(await examine(database.url), "database.bi_roles", Level.OK).message
        await database.pool.execute("ALTER ROLE bi_reader RESET temp_file_limit")
        found = find_one(await examine(database.url), "database.bi_roles", Level.WARNING)
        assert found.message == "bi_reader could use up the server, without 1 limit"
        assert "outcomes bi role --print" in found.remedy


async def test_months_that_are_missing_are_reported_and_bodies_that_ended_in_the_default(
    database: Database, database_url: str, start_service: object
) -> None:
    months = [row["name"] for row in await database.pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'event_bodies'::regclass "
        "AND inhrelid <> 'event_bodies_default'::regclass ORDER BY 1"
    )]  # fmt: skip
    await database.pool.execute(f"DROP TABLE {months[-1]}")
    found = find_one(await examine(database_url), "partitions.months", Level.WARNING)
    assert (months[-1][-7:].replace("_", "-") in found.message, "migrate" in found.remedy) == (True, True)
    await database.pool.execute(f"DROP TABLE {months[0]}; INSERT INTO event_bodies VALUES (1, now(), '')")
    report = find(await examine(database_url), "partitions.months")
    assert [finding.level for finding in report] == [Level.PROBLEM]
    await database.pool.execute("CREATE TABLE event_bodies_2020_01 PARTITION OF event_bodies "
                                "FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')")  # fmt: skip
    missing, stray = find(await examine(database_url), "partitions.months")
    assert (missing.level, stray.level) == (Level.PROBLEM, Level.WARNING)
    await database.pool.execute(stray.remedy.removesuffix(" moves them"))
    assert await database.pool.fetchval("SELECT count(*) FROM event_bodies_default") == 0
    await database.pool.execute("DROP TABLE event_bodies_default")
    found = find(await examine(database_url), "partitions.months")[-1]
    assert (found.level, "PARTITION OF event_bodies DEFAULT" in found.remedy) == (Level.PROBLEM, True)


async def test_bodies_that_should_have_gone_are_reported(database: Database) -> None:
    await database.pool.execute("SELECT create_body_partitions('2020-01-01', 1)")
    assert "since 2020-01" in find_one(await examine(database.url), "partitions.retention", Level.OK).message
    findings = await examine(database.url, OUTCOMES_KEEP_BODIES_DAYS="90")
    found = find_one(findings, "partitions.retention", Level.WARNING)
    assert ("2020-01" in found.message, "OUTCOMES_KEEP_BODIES_DAYS" in found.remedy) == (True, True)
    findings = await examine(database.url, OUTCOMES_KEEP_BODIES_DAYS="30000")
    assert find_one(findings, "partitions.retention", Level.OK)


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(1, Level.OK), (-1, Level.OK), (30, Level.WARNING), (-30, Level.WARNING), (90, Level.PROBLEM)],
)
async def test_a_clock_that_is_off_is_reported(database_url: str, seconds: int, level: Level) -> None:
    findings = await examine(database_url, now=lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    found = find_one(findings, "clock.database", level)
    if level is not Level.OK:
        assert ("ahead" if seconds < 0 else "behind") in found.message
        assert "NTP" in found.remedy
