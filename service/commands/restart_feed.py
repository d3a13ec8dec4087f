"""``outcomes restart-feed``: starts a new timeline of the feed after commits were lost."""

import asyncpg
import click

from service.access.audit import record_audit
from service.commands.startup import run_on_database, start
from service.errors import DatabaseError
from service.store.database import Database


def restart_feed() -> None:
    """Starts a timeline of the feed beyond all positions that were ever read."""
    previous_end, first_position = run_on_database(start(), _restart)
    click.echo(f"The feed ended at {previous_end} and continues at {first_position}.")


async def _restart(database: Database) -> tuple[int, int]:
    async with database.pool.acquire() as connection, connection.transaction():
        try:
            opened = await database.queries.open_feed_timeline(connection, reason="restored", is_cut_off=True)
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseError(
                "The role of OUTCOMES_DATABASE_URL may not do this: run it as the owner of the schema"
            ) from error
        await record_audit(
            database, connection, "feed restart", "feed", "restarted",
            previous_end=opened["previous_end"], first_position=opened["first_position"],
        )  # fmt: skip
    return opened["previous_end"], opened["first_position"]
