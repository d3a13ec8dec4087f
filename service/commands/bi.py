"""``outcomes bi``: the roles that BI tools read as."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
import click
import uvloop

from service.app import prepare_schema
from service.commands.startup import open_database_url, start
from service.settings import Settings
from service.store import bi_roles
from service.store.bi_roles import ROLES, list_role_bounds, list_role_changes, set_up_role
from service.store.database import connect

_Result = TypeVar("_Result")


def role(*, is_full: bool, connections: int, statement_seconds: int, is_print: bool) -> None:
    """Creates or repairs the role, or prints the statements for that."""
    settings = start()
    name = ROLES[1] if is_full else ROLES[0]
    limits = {"connections": connections, "statement_seconds": statement_seconds}
    if is_print:
        _run(settings, lambda connection: _print_role(connection, name, limits))
    else:
        done = _run(settings, lambda connection: set_up_role(connection, name, password=settings.bi_password, **limits))
        click.echo(f"{name} {'is set up' if done.is_changed else 'was already set up'}.")
        if done.unbounded:
            click.echo(f"{name} can use up the server until the owner of the database or a superuser runs:", err=True)
            click.echo("".join(f"{statement};\n" for statement in done.unbounded), nl=False, err=True)


async def _print_role(connection: asyncpg.Connection, name: str, limits: dict[str, int]) -> None:
    changes = await list_role_changes(connection, name, verifier=None, **limits)
    for statement in [*changes, *await list_role_bounds(connection, name)]:
        click.echo(f"{statement};")
    click.echo(f"\\password {name}")


def set_shown(names: tuple[str, ...], kind: str, agent_id: int | None, *, is_shown: bool) -> None:
    """Shows or hides fields of a kind (``result`` or ``parameter``), or all results of an agent."""

    async def work(connection: asyncpg.Connection) -> list[str]:
        if agent_id is not None:
            return await bi_roles.set_closed(connection, agent_id, is_closed=not is_shown)
        return await bi_roles.set_shown(connection, kind, names, is_shown=is_shown)

    for line in _run(start(), work):
        click.echo(line)


def _run(settings: Settings, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, _Result]]) -> _Result:
    """The result of ``work`` on one connection, after a check of the schema."""

    async def run(url: str) -> _Result:
        await prepare_schema(url, may_migrate=False)
        connection = await connect(url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with open_database_url(settings) as url:
        return uvloop.run(run(url))
