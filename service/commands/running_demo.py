"""The settings of a demo that runs, in a private file beside its data, where commands find them.

The demo holds a lock on the file, which the kernel releases however it ends: a file that is free belongs to no demo.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from service.errors import ConfigurationError

FILE = "demo.json"


@contextmanager
def publish_demo(data_dir: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Lets commands find ``settings``, by their environment names, while the block lasts. Raises ConfigurationError
    where another demo runs."""
    path = data_dir.expanduser() / FILE
    with ExitStack() as stack:
        with suppress(OSError):  # commands then do without, and an embedded Postgres says why the folder is of no use
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"A demo runs already in {data_dir}: end it with Ctrl-C, or set another OUTCOMES_DATA_DIR and "
                    "OUTCOMES_PORT for this one"
                ) from error
            file.truncate(0)
            json.dump(dict(settings), file)
            file.flush()
        yield


def find_demo(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of the demo that runs over the data folder of ``environ``, to go before those in ``environ``; none
    where no demo runs, or ``environ`` names another database than the demo's."""
    path = Path(environ.get("OUTCOMES_DATA_DIR") or ".data").expanduser() / FILE
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except BlockingIOError:
        settings = _read(path)
    except OSError:
        return {}
    given = environ.get("OUTCOMES_DATABASE_URL") or environ.get("OUTCOMES_DATABASE_URL_FILE")
    if given and given != settings.get("OUTCOMES_DATABASE_URL"):
        return {}
    return settings | dict.fromkeys((f"{name}_FILE" for name in settings if f"{name}_FILE" in environ), "")


def _read(path: Path) -> dict[str, str]:
    try:
        settings: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):  # it is being written just now
        return {}
    return settings
