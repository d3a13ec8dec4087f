"""Bodies of other months, and the partitions that they are in."""

from datetime import UTC, datetime, timedelta

from service.store.database import Database
from tests.factories import decode
from tests.webhooks.ingesting import ingest

NOW = datetime.now(UTC)
MONTHS_AGO = (NOW.replace(day=15) - timedelta(days=150)).replace(day=15)


async def ingest_then(database: Database, *payloads: object) -> None:
    """Ingests events as if they had come months ago: their bodies lie in the partition of that month."""
    await database.pool.execute("SELECT create_body_partitions($1, 1)", MONTHS_AGO)
    await ingest(database, *decode(*payloads))
    await database.pool.execute("UPDATE events SET recorded_at = $1, received_at = $1", MONTHS_AGO)
    await database.pool.execute("UPDATE event_bodies SET recorded_at = $1", MONTHS_AGO)


async def list_partitions(database: Database) -> set[str]:
    rows = await database.pool.fetch("SELECT relname FROM pg_class WHERE relname ~ '^event_bodies_[0-9_]+$'")
    return {row["relname"] for row in rows}
