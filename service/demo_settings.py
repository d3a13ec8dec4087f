"""The settings of a running demo, which commands in its folder use."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from service.errors import ConfigurationError

DEMO_FILE = "demo.json"


@contextmanager
def publish_demo(data_dir: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Lets commands find ``settings``, by their environment names, while the block lasts. They are in a private file in
    the data folder, which the demo locks: the kernel releases the lock however the demo ends.

    Raises ConfigurationError where another demo runs.
    """
    path = data_dir.expanduser() / DEMO_FILE
    with ExitStack() as stack:
        with suppress(OSError):  # commands then do without; the embedded Postgres reports why the folder cannot be used
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"A demo is already running in {data_dir}: end it with Ctrl-C, or set another OUTCOMES_DATA_DIR "
                    "and OUTCOMES_PORT for this one"
                ) from error
            file.truncate(0)
            json.dump(dict(settings), file)
            file.flush()
        yield


def find_demo(environ: Mapping[str, str], place: str) -> dict[str, str]:
    """The settings of the demo that runs on the data folder of ``environ``, which override those in ``environ``. Empty
    where no demo runs, or where ``environ`` names another ``place`` than the demo's: the setting for what the command
    works on, a database or a service."""
    path = Path(environ.get("OUTCOMES_DATA_DIR") or ".data").expanduser() / DEMO_FILE
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except BlockingIOError:
        settings = _read_demo(path)
    except OSError:
        return {}
    given = environ.get(place) or environ.get(f"{place}_FILE")
    if given and given != settings.get(place):
        return {}
    return settings | dict.fromkeys((f"{name}_FILE" for name in settings if f"{name}_FILE" in environ), "")


def _read_demo(path: Path) -> dict[str, str]:
    try:
        settings: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):  # it is being written
        return {}
    return settings
