"""Starts ``outcomes`` in milliseconds: one process imports all of it, and forks for each command.

Each command is a separate process with its own environment, folder, output, signals and exit status; only the import,
which takes most of a second, is shared.
"""

import asyncio
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.certificates import share_authorities

IMPORTED_LATE = ("httpcore", "anyio._backends._asyncio", "uvicorn.lifespan.off", "rich.status", "rich._emoji_codes")
"""What libraries import when it is first used."""


class Forked:
    """A forked process that can be awaited and signalled like one of asyncio's."""

    def __init__(self, pid: int, status: "asyncio.Future[int]", stdout: asyncio.StreamReader | None,
                 stderr: asyncio.StreamReader | None) -> None:  # fmt: skip
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self._status = status

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        return self._status.result() if self._status.done() else None

    async def wait(self) -> int:
        """Waits for its end; returns the exit status."""
        return await asyncio.shield(self._status)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Waits for its end; returns its whole output and errors."""
        output, errors = await asyncio.gather(*(_read(stream) for stream in (self.stdout, self.stderr)))
        await self.wait()
        return output, errors

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


async def fork_outcomes(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, stdout: int | None = None,
    stderr: int | None = None,
) -> Forked:  # fmt: skip
    """Runs ``outcomes`` with these arguments; ``stdout`` and ``stderr`` are asyncio's PIPE or DEVNULL."""
    status, status_end = os.pipe()
    output, output_end = _open_output(stdout)
    errors, errors_end = _open_output(stderr)
    request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd or Path.cwd())}
    try:
        forker = _start_forker()
        socket.send_fds(forker, [json.dumps(request).encode() + b"\n"], [status_end, output_end, errors_end])
        pid = int(forker.recv(20))
    finally:
        for end in (status_end, output_end, errors_end):
            os.close(end)
    return Forked(pid, await _watch(status), await _open_reader(output), await _open_reader(errors))


def _open_output(kind: int | None) -> tuple[int | None, int]:
    """Returns the read end, if any, and the write end."""
    if kind == asyncio.subprocess.PIPE:
        return os.pipe()
    return None, os.open(os.devnull, os.O_WRONLY) if kind == asyncio.subprocess.DEVNULL else os.dup(2)


async def _open_reader(fd: int | None) -> asyncio.StreamReader | None:
    if fd is None:
        return None
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0)
    )
    return reader


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


class _Status(asyncio.Protocol):
    """Receives the exit status from the forker."""

    def __init__(self, status: "asyncio.Future[int]") -> None:
        self._status = status

    def data_received(self, data: bytes) -> None:
        self._data = data

    def connection_lost(self, exc: Exception | None) -> None:
        self._status.set_result(int(self._data))


async def _watch(fd: int) -> "asyncio.Future[int]":
    loop = asyncio.get_running_loop()
    status: asyncio.Future[int] = loop.create_future()
    await loop.connect_read_pipe(lambda: _Status(status), os.fdopen(fd, "rb", 0))
    return status


@functools.cache
def _start_forker() -> socket.socket:
    """Starts the forker, which ends with this process; returns the socket that it listens on."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", "from tests.forking import main; main()", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1],
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours


def _fork_on_request(asked: socket.socket) -> None:
    """Forks for each request; returns only in the forked process."""
    statuses: dict[int, int] = {}

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                fd = statuses.pop(pid)
                with contextlib.suppress(BrokenPipeError):  # the starting process has ended
                    os.write(fd, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(fd)

    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(asked, 2**16, 3)
        if not text:
            os._exit(0)
        while not text.endswith(b"\n"):
            text += asked.recv(2**16)
        request = json.loads(text)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            _become(asked, request, *fds[1:])
            return
        statuses[pid] = fds[0]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for fd in fds[1:]:
            os.close(fd)
        asked.sendall(str(pid).encode())


def _become(asked: socket.socket, request: dict[str, object], stdout: int, stderr: int) -> None:
    """Sets up this process as requested."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, asked.detach() + 1024)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv[1:] = request["arguments"]  # type: ignore[call-overload]


def _leave(status: list[int]) -> None:
    """Ends the process without the interpreter's clean-up, which would copy all memory that is shared with the forker.

    If the output cannot be written, the interpreter ends it as usual, and says so.
    """
    if status:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return
        os._exit(status[0])


def main() -> None:
    """Runs the forker, and in each forked process the command."""
    status: list[int] = []
    atexit.register(_leave, status)  # the first registered is the last to run
    import service.commands
    from service.cli import main as outcomes

    modules = [module.name for module in pkgutil.iter_modules(service.commands.__path__, "service.commands.")]
    for name in (*modules, "service.crm.run", "service.sandbox.run", *IMPORTED_LATE):
        importlib.import_module(name)
    share_authorities()
    httpx.AsyncClient()
    asked = socket.socket(fileno=int(sys.argv[1]))
    sys.argv = ["outcomes"]
    gc.collect()
    gc.freeze()
    _fork_on_request(asked)
    try:
        outcomes()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            status.append(ended.code)
        raise
    status.append(0)
