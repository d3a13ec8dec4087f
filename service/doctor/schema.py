"""What is in the database: the schema, the role's rights to it, and the months that bodies go to."""

from datetime import UTC, date, datetime, timedelta

from service.doctor.findings import Finding, ok, problem, show_name, warning
from service.errors import DatabaseError
from service.settings import Settings
from service.store.bi_roles import ROLES
from service.store.database import Database
from service.store.migrations import check_schema, read_migrations

MONTHS_AHEAD = 3
SHOWN = 5
MAKE_MONTHS = "`outcomes migrate` makes them; a running service does every hour: see maintenance_failed in its log"


async def check_schema_version(database: Database) -> list[Finding]:
    """Whether the schema is this version's."""
    try:
        async with database.pool.acquire() as connection:
            await check_schema(connection)
    except DatabaseError as error:
        message, _, remedy = str(error).partition(": ")
        return [problem(message, f"{remedy[:1].upper()}{remedy[1:]}")]
    return [ok(f"The schema is this version's ({read_migrations()[-1].name.partition('_')[0]})")]


async def check_role(database: Database, settings: Settings) -> list[Finding]:
    """Whether our role may do what the service does, and no more."""
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
    remedy = (
        "Make a role for the service, and as the owner run outcomes grant-service ROLE; OUTCOMES_MIGRATE_ON_START=0"
    )
    if facts["is_superuser"]:
        return [warning(f"{role} is a superuser: whoever takes over the service has the server", remedy)]
    if facts["is_owner"] or facts["is_powerful"]:
        what = "owns the tables" if facts["is_owner"] else "may make roles, databases or replicas"
        return [warning(f"{role} {what}: the service needs less", remedy)]
    return [ok(f"{role} may do what the service does, and owns nothing")]


async def check_bi_roles(database: Database) -> list[Finding]:
    """Whether roles of BI tools are bounded in what they can use up of the server."""
    queries, pool = database.queries, database.pool
    roles = [row["name"] async for row in queries.list_bi_roles(pool, roles=list(ROLES))]
    findings = []
    for role in roles:
        left = [row["statement"] async for row in queries.list_bi_role_bounds(pool, role=role)]
        if left:
            remedy = "As the owner of the database or a superuser run what `outcomes bi role --print` prints"
            findings.append(warning(f"{role} can use up the server: bounds are missing ({len(left)})", remedy))
    return findings or [ok(f"Bounded: {', '.join(roles)}" if roles else "There are no roles for BI tools")]


async def check_months(database: Database, now: datetime) -> list[Finding]:
    """Whether the months ahead have their partitions, and nothing of theirs lies in the default one."""
    present = {row["month"] async for row in database.queries.list_body_partitions(database.pool)}
    this = now.astimezone(UTC).date().replace(day=1)
    wanted = [this]
    while len(wanted) < MONTHS_AHEAD:
        wanted.append((wanted[-1] + timedelta(days=32)).replace(day=1))
    missing = [month for month in wanted if month not in present]
    shown = ", ".join(f"{month:%Y-%m}" for month in missing)
    findings = []
    if this in missing:
        findings.append(problem(f"Bodies of this month have no partition ({shown}): they pile up in one", MAKE_MONTHS))
    elif missing:
        findings.append(warning(f"Months ahead have no partition: {shown}", MAKE_MONTHS))
    if not await database.queries.has_default_partition(database.pool):
        remedy = "CREATE TABLE event_bodies_default PARTITION OF event_bodies DEFAULT, as the owner"
        return [*findings, problem("There is no default partition: a month that is missing refuses webhooks", remedy)]
    stray: datetime | None = await database.queries.get_latest_stray_body(database.pool)
    # Older ones belong there: retention has moved them out of their month, since they wait for their place.
    if stray is not None and stray.date() >= min(present, default=date.min):
        remedy = f"SELECT create_body_partitions('{stray:%Y-%m-%d}', 1) moves them"
        findings.append(warning(f"Bodies lie in the default partition, the newest of {stray:%Y-%m-%d}", remedy))
    return findings or [ok(f"This month and {MONTHS_AHEAD - 1} ahead have their partitions")]


async def check_retention(database: Database, settings: Settings, now: datetime) -> list[Finding]:
    """Whether bodies go when they should."""
    days = settings.keep_days["bodies"]
    oldest = min([row["month"] async for row in database.queries.list_body_partitions(database.pool)], default=None)
    if not days or oldest is None:
        since = f", since {oldest:%Y-%m}" if oldest else ""
        return [ok(f"Raw bodies are kept for ever{since}" if not days else "There are no raw bodies")]
    ends = (oldest + timedelta(days=32)).replace(day=1)
    late = (now.astimezone(UTC).date() - timedelta(days=days) - ends).days
    if late > 1:
        remedy = "Run the service with OUTCOMES_KEEP_BODIES_DAYS; see retention_failed in its log"
        return [warning(f"Raw bodies of {oldest:%Y-%m} should have gone {late} days ago", remedy)]
    return [ok(f"Raw bodies go by the month after {days} days; the oldest month is {oldest:%Y-%m}")]
