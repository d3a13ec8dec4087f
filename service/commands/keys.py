"""``outcomes keys``: creates, lists and revokes keys for the HTTP API."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from service.access.keys import Keys, parse_lifetime
from service.commands.startup import run_on_database, start

_Result = TypeVar("_Result")


def create(name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Creates a key: prints it, and its name, scopes and expiry on standard error."""
    lifetime = parse_lifetime(expires_in) if expires_in else None
    created = _run(lambda made: made.create(name, scopes, lifetime))
    row = created.row
    until = f"until {_show_time(row['expires_at'])}" if row["expires_at"] else "until it is revoked"
    click.echo(f"Key {row['key_id']}, {name}: {', '.join(row['scopes'])}, {until}. It is not stored.", err=True)
    click.echo(created.key)


def list_keys() -> None:
    """Prints the keys: their first characters, scopes, and last use."""
    table = Table("id", "name", "begins", "scopes", "created", "expires", "last used", "state")
    for row in _run(lambda made: made.list()):
        times = [_show_time(row[name]) for name in ("created_at", "expires_at", "last_used_at")]
        state = "live" if row["is_live"] else "revoked" if row["revoked_at"] else "expired"
        table.add_row(str(row["key_id"]), row["name"], f"{row['hint']}…", " ".join(row["scopes"]), *times, state)
    Console().print(table)


def revoke(name_or_id: str) -> None:
    """Revokes a key."""
    row = _run(lambda made: made.revoke(name_or_id))
    click.echo(f"Key {row['key_id']}, {row['name']}, is revoked.")


def _run(do: Callable[[Keys], Coroutine[Any, Any, _Result]]) -> _Result:
    return run_on_database(start(), lambda database: do(Keys(database)))


def _show_time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
