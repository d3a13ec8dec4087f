"""The schema: its version, the roles' rights, and the monthly partitions of bodies."""

from datetime import UTC, date, datetime, timedelta

from service.counts import count
from service.doctor.findings import Finding, explain, ok, problem, show_name, warning
from service.errors import DatabaseError
from service.settings import Settings
from service.store.bi_roles import ROLES
from service.store.database import Database
from service.store.migrations import check_schema, read_migrations

MONTHS_AHEAD = 3
SHOWN = 5
MAKE_MONTHS = "`outcomes migrate` creates them; a running service does so every hour: see maintenance_failed in its log"


async def check_schema_version(database: Database) -> list[Finding]:
    """Whether the schema is this version's."""
    try:
        async with database.pool.acquire() as connection:
            await check_schema(connection)
    except DatabaseError as error:
        return [explain(error)]
    return [ok(f"The schema is this version's ({read_migrations()[-1].name.partition('_')[0]})")]


async def check_role(database: Database, settings: Settings) -> list[Finding]:
    """Whether our role has the rights that the service needs, and no more."""
    facts = await database.queries.get_role_facts(database.pool)
    missing = [
        f"{row['name']} ({row['rights']})"
        async for row in database.queries.list_missing_rights(database.pool, limit=SHOWN)
    ]
    role = show_name(facts["name"])
    if missing:
        remedy = f"As the owner: outcomes grant-service {role}"
        return [problem(f"{role} lacks rights to {', '.join(missing)}", remedy)]
    if not settings.database_url:
        return [ok(f"{role}, the embedded Postgres' own")]
    remedy = "Create a role for the service; as the owner run outcomes grant-service ROLE; OUTCOMES_MIGRATE_ON_START=0"
    if facts["is_superuser"]:
        return [warning(f"{role} is a superuser: an attacker who takes over the service has the server", remedy)]
    if facts["is_owner"] or facts["is_powerful"]:
        what = "owns the tables" if facts["is_owner"] else "may create roles, databases or replicas"
        return [warning(f"{role} {what}: the service needs less", remedy)]
    return [ok(f"{role} may do what the service does, and owns nothing")]


async def check_bi_roles(database: Database) -> list[Finding]:
    """Whether the roles of BI tools have resource limits."""
    queries, pool = database.queries, database.pool
    roles = [row["name"] async for row in queries.list_bi_roles(pool, roles=list(ROLES))]
    findings = []
    for role in roles:
        left = [row["statement"] async for row in queries.list_bi_role_bounds(pool, role=role)]
        if left:
            remedy = "As the owner of the database or a superuser run what `outcomes bi role --print` prints"
            findings.append(warning(f"{role} could use up the server, without {count(len(left), 'limit')}", remedy))
    return findings or [ok(f"Limited: {', '.join(roles)}" if roles else "There are no roles for BI tools")]


async def check_months(database: Database, now: datetime) -> list[Finding]:
    """Whether this month and the next have partitions, and none of their bodies is in the default partition."""
    present = {row["month"] async for row in database.queries.list_body_partitions(database.pool)}
    this = now.astimezone(UTC).date().replace(day=1)
    wanted = [this]
    while len(wanted) < MONTHS_AHEAD:
        wanted.append((wanted[-1] + timedelta(days=32)).replace(day=1))
    missing = [month for month in wanted if month not in present]
    shown = ", ".join(f"{month:%Y-%m}" for month in missing)
    findings = []
    if this in missing:
        findings.append(problem(f"This month has no partition ({shown}): the default one fills up", MAKE_MONTHS))
    elif missing:
        findings.append(warning(f"Months ahead have no partition: {shown}", MAKE_MONTHS))
    if not await database.queries.has_default_partition(database.pool):
        remedy = "CREATE TABLE event_bodies_default PARTITION OF event_bodies DEFAULT, as the owner"
        return [*findings, problem("There is no default partition: webhooks of a missing month are refused", remedy)]
    stray: datetime | None = await database.queries.get_latest_stray_body(database.pool)
    # Older ones belong there: retention moves unattributed bodies out of their month.
    if stray is not None and stray.date() >= min(present, default=date.min):
        remedy = f"SELECT create_body_partitions('{stray:%Y-%m-%d}', 1) moves them"
        findings.append(warning(f"Bodies are in the default partition, the newest of {stray:%Y-%m-%d}", remedy))
    return findings or [ok(f"This month and {MONTHS_AHEAD - 1} ahead have partitions")]


async def check_retention(database: Database, settings: Settings, now: datetime) -> list[Finding]:
    """Whether old bodies are deleted on time."""
    days = settings.keep_days["bodies"]
    oldest = min([row["month"] async for row in database.queries.list_body_partitions(database.pool)], default=None)
    if not days or oldest is None:
        since = f", since {oldest:%Y-%m}" if oldest else ""
        return [ok(f"Raw bodies are kept forever{since}" if not days else "There are no raw bodies")]
    ends = (oldest + timedelta(days=32)).replace(day=1)
    late = (now.astimezone(UTC).date() - timedelta(days=days) - ends).days
    if late > 1:
        remedy = "Run the service with OUTCOMES_KEEP_BODIES_DAYS; see retention_failed in its log"
        return [warning(f"Raw bodies of {oldest:%Y-%m} should have been deleted {count(late, 'day')} ago", remedy)]
    return [ok(f"Raw bodies are deleted by the month after {count(days, 'day')}; the oldest month is {oldest:%Y-%m}")]
