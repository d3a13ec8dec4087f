"""What holds for every command of the command line."""

import click

from tests.processes import Finished


def assert_refused(finished: Finished, *report: str) -> None:
    """Checks that it ended with 2 and one sentence, without a traceback."""
    lines = finished.errors.splitlines()
    assert finished.status == 2, finished
    assert "Traceback" not in finished.errors
    assert lines[-1].startswith("outcomes: ")
    assert [line for line in lines[:-1] if not line.startswith("{")] == [], "only log lines come before it"
    assert [word for word in report if word not in lines[-1]] == [], lines[-1]
    assert finished.output == ""


def find_commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command and group below, with the words that call it."""
    found: list[tuple[tuple[str, ...], click.Command]] = [(path, group)]
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += find_commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found
