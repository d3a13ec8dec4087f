"""``outcomes spill``: what waits in the spill stream, and giving up one that is gone."""

import sys
from datetime import UTC, datetime

import click

from service.access.audit import record_audit
from service.commands.startup import run_on_database, start
from service.counts import count
from service.errors import ConfigurationError
from service.store.database import Database

REACHED_SECONDS = 60.0
"""A stream that was looked at within this time is not lost."""


def show_status() -> None:
    """Prints what Postgres knows of the stream; exits with 1 while events may wait there."""
    sys.exit(1 if run_on_database(start(), _print_status) else 0)


def declare_lost() -> None:
    """Gives up the streams that nobody has reached for a minute. Raises ConfigurationError if there are none."""
    given_up = run_on_database(start(), _give_up)
    click.echo(f"{count(given_up, 'known webhook')} given up; healing fetches what is missing.")


async def _print_status(database: Database) -> bool:
    queries, pool = database.queries, database.pool
    async for row in queries.list_spill_states(pool):
        oldest = f", the oldest since {_show(row['oldest_at'])}" if row["oldest_at"] else ""
        click.echo(f"stream of {row['stream']}: {count(row['waiting_events'], 'webhook')}{oldest}")
        click.echo(f"  last looked at {_show(row['checked_at'])}")
    async for row in queries.list_spill_replicas(pool):
        click.echo(f"replica {row['replica']}: {_describe_replica(row['spilled_at'], is_alive=row['is_alive'])}")
    waits = await queries.find_spilled(pool) is not None
    click.echo("Webhooks may wait: verdicts are not final." if waits else "Nothing waits.")
    return waits


async def _give_up(database: Database) -> int:
    rows = [row async for row in database.queries.list_spill_states(database.pool)]
    lost = [row["stream"] for row in rows if row["checked_seconds_ago"] > REACHED_SECONDS]
    replicas = [row async for row in database.queries.list_spill_replicas(database.pool)]
    if not lost and (rows or not any(not row["is_alive"] for row in replicas)):
        raise ConfigurationError(
            "No spill stream is lost: each was reached within the last minute, or none was ever used. See `outcomes "
            "spill status`; stop the replicas first if the stream is to be given up all the same"
        )
    async with database.pool.acquire() as connection, connection.transaction():
        given_up = int(await database.queries.forget_spilled(connection, streams=lost))
        await record_audit(database, connection, "give_up_spill", "spill stream", "given up", events=given_up)
    return given_up


def _describe_replica(spilled_at: datetime | None, *, is_alive: bool) -> str:
    if not is_alive:
        return "does not answer: it may have put webhooks into the stream"
    if spilled_at is None:
        return "has put nothing into the stream"
    if spilled_at.year > 9000:
        return "puts webhooks into the stream"
    return f"put webhooks into the stream until {_show(spilled_at)}"


def _show(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
