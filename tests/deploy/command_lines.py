"""Command lines of ``outcomes`` that stand in the files of ``deploy``."""

import click

from service.cli import outcomes


def parse(arguments: list[str]) -> None:
    """Parses an ``outcomes`` command line without running it; raises click's UsageError for a wrong one."""
    command, rest = outcomes.commands[arguments[0]], list(arguments[1:])
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    with command.make_context(arguments[0], rest):
        pass
