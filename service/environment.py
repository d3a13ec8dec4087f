"""The environment of commands: that of the process, of a demo that runs here, or of the installed service.

systemd gives the service its settings in a file, and a shell does not have them. Commands read the same file, with
systemd's syntax, so that they work on the service's database and not on an empty one.
"""

import os
import re
from pathlib import Path

import click

from service.demo_settings import find_demo
from service.errors import ConfigurationError
from service.values import explain_unread, read_text_file

UNIT_FILE = Path("/etc/outcomes/outcomes.env")
"""The ``EnvironmentFile`` of ``deploy/outcomes.service``."""
PLACES = ("OUTCOMES_DATABASE_URL", "OUTCOMES_DATA_DIR", "OUTCOMES_URL")
"""Settings that say what a command works on: with one of them in the environment, the unit's file is not used."""

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'([^']*)'")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def find_environ(place: str) -> dict[str, str]:
    """The environment of a command. If a demo runs in this folder, with its settings; else, where the environment does
    not say what the command works on, with those of the installed service. Says so on standard error. ``place`` is the
    setting that names what the command works on."""
    demo = find_demo(os.environ, place)
    if demo:
        _note("using the settings of the demo that runs here")
    elif not any(name in os.environ or f"{name}_FILE" in os.environ for name in PLACES) and _is_readable(UNIT_FILE):
        use_env_file(UNIT_FILE)
    return {**os.environ, **demo}


def _is_readable(path: Path) -> bool:
    try:
        path.open().close()
    except PermissionError:
        _note(f"{path} cannot be read by this user: to use its settings, run this as root or as the service's user")
    except OSError:
        return False
    else:
        return True
    return False


def use_env_file(path: Path) -> None:
    """Adds to this process's environment what it lacks of the file. A setting that is already there keeps its value,
    whether it is given as ``NAME`` or as ``NAME_FILE``. Raises ConfigurationError as ``read_env_file`` does."""
    given = {name.removesuffix("_FILE") for name in os.environ}
    added = {name: value for name, value in read_env_file(path).items() if name.removesuffix("_FILE") not in given}
    os.environ.update(added)
    _note(f"using the settings in {path}")


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file as systemd's ``EnvironmentFile`` reads it: one assignment per line, comments after ``#``
    or ``;``, quotes around a value, and lines that a backslash continues. The last assignment of a name counts.

    Raises ConfigurationError for a file that cannot be read, or with another line, of which only the number is named.
    """
    try:
        text = read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({explain_unread(error)}): name a text file that this user may read"
        ) from error
    variables = {}
    number = 1
    for line in re.split(r"(?<!\\)\n", text):
        content = line.strip()
        if content and not content.startswith(("#", ";")):
            assignment = _ASSIGNMENT.fullmatch(content)
            if assignment is None:
                raise ConfigurationError(f"{path}, line {number}, is no assignment: write NAME=value, or # before it")
            variables[assignment[1]] = _read_value(assignment[2].replace("\\\n", ""))
        number += line.count("\n") + 1
    return variables


def _read_value(text: str) -> str:
    if quoted := _SINGLE_QUOTED.fullmatch(text):
        return quoted[1]
    if quoted := _DOUBLE_QUOTED.fullmatch(text):
        return re.sub(r'\\(["\\`$])', r"\1", quoted[1])
    return re.sub(r"\\(.)", r"\1", text)


def _note(message: str) -> None:
    click.echo(f"outcomes: {message}", err=True)
