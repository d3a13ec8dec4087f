"""``outcomes spill``: what waits in the spill stream, giving up one that is gone, and turning the spill off."""

import sys
from datetime import UTC, datetime

import click

from service.access.audit import record_audit
from service.commands.startup import run_on_database, start
from service.counts import count
from service.errors import ConfigurationError
from service.outcomes.spilled import find_spilled
from service.store.database import Database

REACHED_SECONDS = 60.0
"""A stream that was looked at within this time is not lost."""


def show_status() -> None:
    """Prints what Postgres knows of the stream; exits with 1 while events may wait there."""
    sys.exit(1 if run_on_database(start(), _print_status) else 0)


def declare_lost() -> None:
    """Gives up the streams that nobody has reached for a minute, and accepts the one that is reached, if any. Raises
    ConfigurationError if there is nothing to give up, or several are reached."""
    given_up = run_on_database(start(), _give_up)
    click.echo(f"{count(given_up, 'known webhook')} given up; healing fetches what is missing.")


def turn_off() -> None:
    """Forgets the spill. Raises ConfigurationError while a replica uses it, or webhooks may wait."""
    run_on_database(start(), _turn_off)
    click.echo("The spill is off.")


async def _print_status(database: Database) -> bool:
    queries, pool = database.queries, database.pool
    async for row in queries.list_spill_states(pool):
        oldest = f", the oldest since {_show(row['oldest_at'])}" if row["oldest_at"] else ""
        click.echo(f"stream of {row['stream']}: {count(row['waiting_events'], 'webhook')}{oldest}")
        click.echo(f"  last looked at {_show(row['checked_at'])}")
        if not row["is_accepted"]:
            click.echo("  it is not the stream that was used before; `outcomes spill lost` accepts it")
    async for row in queries.list_spill_replicas(pool):
        shown = _describe_replica(row["spilled_at"], row["unreachable_since"], is_alive=row["is_alive"])
        click.echo(f"replica {row['replica']}: {shown}")
    spilled = await find_spilled(database)
    if spilled is None:
        click.echo("Nothing waits.")
        return False
    click.echo(f"No verdict is final: {spilled.describe().text}.")
    return True


async def _give_up(database: Database) -> int:
    rows = [row async for row in database.queries.list_spill_states(database.pool)]
    reached = [row for row in rows if row["checked_seconds_ago"] <= REACHED_SECONDS]
    replicas = [row async for row in database.queries.list_spill_replicas(database.pool)]
    if len(reached) > 1:
        raise ConfigurationError(
            "OUTCOMES_SPILL_URL: several streams were reached within the last minute: give all replicas the same "
            "servers, and try again a minute later"
        )
    has_ended = any(not row["is_alive"] for row in replicas)
    if rows == reached and all(row["is_accepted"] for row in rows) and (rows or not has_ended):
        raise ConfigurationError(
            "There is no lost spill stream: each was reached within the last minute, or none was ever used. See "
            "`outcomes spill status`; stop the replicas first if the stream is to be given up all the same"
        )
    kept = reached[0]["stream"] if reached else None
    async with database.pool.acquire() as connection, connection.transaction():
        given_up = int(await database.queries.forget_spilled(connection, kept=kept))
        await database.queries.accept_spill_stream(connection, stream=kept)
        await record_audit(database, connection, "give_up_spill", "spill stream", "given up", events=given_up)
    return given_up


async def _turn_off(database: Database) -> None:
    replicas = [row async for row in database.queries.list_spill_replicas(database.pool)]
    if any(row["is_alive"] for row in replicas):
        raise ConfigurationError(
            "OUTCOMES_SPILL_URL: replicas use the spill: stop them, or restart them without it, first"
        )
    spilled = await find_spilled(database)
    if spilled is not None and spilled.cause != "unseen":
        raise ConfigurationError(
            f"The spill is needed: {spilled.describe().text}. Start a replica with OUTCOMES_SPILL_URL until `outcomes "
            "spill status` says that nothing waits and stop it, or run `outcomes spill lost`"
        )
    async with database.pool.acquire() as connection, connection.transaction():
        await database.queries.forget_spilled(connection, kept=None)
        await record_audit(database, connection, "turn_off_spill", "spill stream", "turned off")


def _describe_replica(spilled_at: datetime | None, unreachable_since: datetime | None, *, is_alive: bool) -> str:
    if not is_alive:
        return "does not answer: it may have put webhooks into the stream"
    if unreachable_since is not None:
        return f"cannot use the stream since {_show(unreachable_since)}"
    if spilled_at is None:
        return "has put nothing into the stream"
    if spilled_at.year > 9000:
        return "puts webhooks into the stream"
    return f"put webhooks into the stream until {_show(spilled_at)}"


def _show(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
