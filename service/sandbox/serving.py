"""Serves a sandbox inside an asyncio program: the command, the demo, a test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service.sandbox.clock import Clock
from service.sandbox.faults import Faults
from service.sandbox.http import CLOSE_CONNECTION
from service.sandbox.options import SandboxOptions
from service.sandbox.sandbox import Sandbox

_BACKLOG = 512
_GRACE_SECONDS = 1.0
"""How long the server waits for open requests when it stops."""
_TURNS = 10


class TlsFiles(NamedTuple):
    """A certificate and its key, as PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A sandbox that is being served at ``base_url``, such as ``http://127.0.0.1:8090``."""

    sandbox: Sandbox
    base_url: str


@contextlib.asynccontextmanager
async def serve_sandbox(
    options: SandboxOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    faults: Faults | None = None,
    clock: Clock | None = None,
    tls: TlsFiles | None = None,
) -> AsyncIterator[RunningSandbox]:
    """Runs and serves a sandbox until the block is left; port 0 takes a free one. Installs no signal handlers.

    Raises ``OSError`` when the address cannot be bound.
    """
    sandbox = Sandbox(options, faults=faults, clock=clock)
    async with sandbox, serve_app(sandbox.app, host=host, port=port, tls=tls) as base_url:
        sandbox.writer.base_url = base_url
        try:
            yield RunningSandbox(sandbox, base_url)
        finally:
            sandbox.faults.release()


@contextlib.asynccontextmanager
async def serve_app(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None
) -> AsyncIterator[str]:
    """Serves any ASGI application until the block is left and yields its base URL. Raises ``OSError`` as above."""
    listener = _listen(host, port)
    server = _Server(app, tls)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    try:
        if serving.done():
            serving.result()
        shown = f"[{host}]" if ":" in host else host
        yield f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}"
    finally:
        ready.cancel()
        server.stop.set()
        await serving


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only when the protocol is named; without it answers take 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the program around it, and starts and stops without polling."""

    def __init__(self, app: ASGIApp, tls: TlsFiles | None) -> None:
        async def app_with_extension(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope.setdefault("extensions", {})[CLOSE_CONNECTION] = partial(self._abort, scope["client"])
            await app(scope, receive, send)

        super().__init__(
            uvicorn.Config(
                app_with_extension,
                lifespan="off",
                log_config=None,
                access_log=False,
                date_header=False,  # uvicorn would keep it by a clock of its own
                server_header=False,
                ssl_certfile=tls and tls.certificate,
                ssl_keyfile=tls and tls.key,
            )
        )
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self.ready.set()
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A connection becomes known some loop turns after it is accepted; closing the server before would lose it.
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):
            for listener in [listener for server in self.servers for listener in server.sockets]:
                loop.remove_reader(listener.fileno())
        await self._turn_over(lambda: False)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = list(self.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._turn_over(lambda: not self.server_state.connections)

    async def _turn_over(self, is_over: Callable[[], bool]) -> None:
        """Lets the event loop turn until ``is_over()``, at most ``_TURNS`` times."""
        for _ in range(_TURNS):
            if is_over():
                return
            await asyncio.sleep(0)

    def _abort(self, client: tuple[str, int] | None) -> None:
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()
