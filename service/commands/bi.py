"""``outcomes bi``: the roles that BI tools read as."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
import click
import uvloop

from service.app import prepare_schema
from service.commands.starting import open_database_url, start
from service.settings import Settings
from service.store.bi_roles import ROLES, list_role_bounds, list_role_changes, set_closed, set_shown, set_up_role
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


_NAMES = click.argument("names", nargs=-1)
_RESULT = click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
_AGENT = click.option("--agent", "agent_id", type=click.IntRange(0), help="All results of an agent, instead of names.")


@bi.command()
@_NAMES
@_RESULT
@_AGENT
def show(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Show call parameters (or results) to bi_reader: those that say nothing about a single person.

    With --result --agent ID the results of that agent are shown as those of any other.
    """
    _set_shown(names, is_result, agent_id, is_shown=True)


@bi.command()
@_NAMES
@_RESULT
@_AGENT
def hide(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Hide call parameters (or results) from bi_reader.

    Results take patterns: '*name*' hides customer_name too, in any case, unless it is shown by name. With --result
    --agent ID all results of that agent are hidden that are not shown by name.
    """
    _set_shown(names, is_result, agent_id, is_shown=False)


def _set_shown(names: tuple[str, ...], is_result: bool, agent_id: int | None, *, is_shown: bool) -> None:
    if bool(names) == (agent_id is not None):
        raise click.UsageError("Give either names or --agent")
    if agent_id is not None and not is_result:
        raise click.UsageError("--agent goes with --result: call parameters are hidden unless they are shown")

    async def work(connection: asyncpg.Connection) -> list[str]:
        if agent_id is not None:
            return await set_closed(connection, agent_id, is_closed=not is_shown)
        return await set_shown(connection, "result" if is_result else "parameter", names, is_shown=is_shown)

    for line in _run(start(), work):
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
