"""``outcomes bi``: the roles that BI tools read as."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
import click
import uvloop

from service.app import prepare_schema
from service.commands.starting import open_database_url, start
from service.settings import Settings
from service.store.bi_roles import ROLES, list_role_bounds, list_role_changes, set_shown, set_up_role
from service.store.database import connect

_Result = TypeVar("_Result")


@click.group()
def bi() -> None:
    """The roles that BI tools read as, and what they are shown."""


@bi.command()
@click.option("--full", is_flag=True, help="bi_reader_full, which sees phones and call parameters; else bi_reader.")
@click.option("--connections", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most, at a time.")
@click.option(
    "--statement-seconds", default=60, show_default=True, type=click.IntRange(1, 86_400), help="Longest query."
)
@click.option("--print", "is_print", is_flag=True, help="Only print what an administrator would have to run.")
def role(full: bool, connections: int, statement_seconds: int, is_print: bool) -> None:
    """Make or mend a role that reads the schema bi and nothing else.

    Its password comes from OUTCOMES_BI_PASSWORD; without, the present one stays. Safe to run again.
    """
    settings = start()
    name = ROLES[1] if full else ROLES[0]
    limits = {"connections": connections, "statement_seconds": statement_seconds}
    if is_print:
        _run(settings, lambda connection: _print_role(connection, name, limits))
    else:
        done = _run(settings, lambda connection: set_up_role(connection, name, password=settings.bi_password, **limits))
        click.echo(f"{name} {'is set up' if done.is_changed else 'is as it should be'}.")
        if done.unbounded:
            click.echo(f"{name} can use up the server until the owner of the database or a superuser runs:", err=True)
            click.echo("".join(f"{statement};\n" for statement in done.unbounded), nl=False, err=True)


async def _print_role(connection: asyncpg.Connection, name: str, limits: dict[str, int]) -> None:
    changes = await list_role_changes(connection, name, verifier=None, **limits)
    for statement in [*changes, *await list_role_bounds(connection, name)]:
        click.echo(f"{statement};")
    click.echo(f"\\password {name}")


@bi.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
def show(names: tuple[str, ...], is_result: bool) -> None:
    """Show call parameters (or results) to bi_reader: those that say nothing about a single person."""
    _set_shown(names, is_result, is_shown=True)


@bi.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
def hide(names: tuple[str, ...], is_result: bool) -> None:
    """Hide call parameters (or results) from bi_reader."""
    _set_shown(names, is_result, is_shown=False)


def _set_shown(names: tuple[str, ...], is_result: bool, *, is_shown: bool) -> None:
    kind = "result" if is_result else "parameter"
    for line in _run(start(), lambda connection: set_shown(connection, kind, names, is_shown=is_shown)):
        click.echo(line)


def _run(settings: Settings, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, _Result]]) -> _Result:
    """What ``work`` comes to, on one connection, once the schema was found to fit."""

    async def run(url: str) -> _Result:
        await prepare_schema(url, may_migrate=False)
        connection = await connect(url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with open_database_url(settings) as url:
        return uvloop.run(run(url))
