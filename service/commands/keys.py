"""``outcomes keys``: makes, lists and revokes keys for the HTTP API."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from service.access.keys import Keys, parse_lifetime
from service.commands.starting import run_on_database, start
from service.web.scopes import SCOPES

_Result = TypeVar("_Result")


@click.group()
def keys() -> None:
    """Keys for the HTTP API: each with its scopes, shown once, stored as a digest.

    read sees figures and recipients, upload also has people called, feed follows the changes; admin may do all of it,
    and erase. Changes hold within seconds, on every replica.
    """


@keys.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be repeated.  [default: read]")
@click.option("--expires-in", help="Such as 12h, 90d or 8w; without it the key does not expire.")
def create(name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Make a key and print it, this once: nobody can show it again."""
    lifetime = parse_lifetime(expires_in) if expires_in else None
    created = _run(lambda made: made.create(name, scopes or ("read",), lifetime))
    row = created.row
    until = f"until {_show_time(row['expires_at'])}" if row["expires_at"] else "until it is revoked"
    click.echo(f"Key {row['key_id']}, {name}: {', '.join(row['scopes'])}, {until}. It is not stored.", err=True)
    click.echo(created.key)


@keys.command("list")
def list_keys() -> None:
    """List the keys: how each begins, what it is for, and when it was last used."""
    table = Table("id", "name", "begins", "scopes", "created", "expires", "last used", "state")
    for row in _run(lambda made: made.list()):
        times = [_show_time(row[name]) for name in ("created_at", "expires_at", "last_used_at")]
        state = "live" if row["is_live"] else "revoked" if row["revoked_at"] else "expired"
        table.add_row(str(row["key_id"]), row["name"], f"{row['hint']}…", " ".join(row["scopes"]), *times, state)
    Console().print(table)


@keys.command()
@click.argument("name_or_id")
def revoke(name_or_id: str) -> None:
    """Revoke a key by its name or id: it is refused everywhere within seconds."""
    row = _run(lambda made: made.revoke(name_or_id))
    click.echo(f"Key {row['key_id']}, {row['name']}, is revoked.")


def _run(do: Callable[[Keys], Coroutine[Any, Any, _Result]]) -> _Result:
    return run_on_database(start(), lambda database: do(Keys(database)))


def _show_time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
