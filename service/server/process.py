"""Runs an ASGI application under uvicorn: until a signal, or while a block lasts."""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from service.errors import ConfigurationError
from service.server.connection import HttpConnection
from service.server.limits import ConnectionKeeper, ConnectionLimits

logger = structlog.get_logger()

DRAIN_SECONDS = 15  # more than a webhook can wait for its commit
UNTAKEN_SECONDS = 60
QUEUED_CONNECTIONS = 2048
OTHER_DESCRIPTORS = 256  # the database's connections, uploads on disk


@dataclass(frozen=True)
class Service:
    """An application, and what its server needs to know."""

    app: ASGIApp
    keeper: ConnectionKeeper = field(default_factory=ConnectionKeeper)
    """Keeps the connections within their limits."""
    end_waits: Callable[[], None] = lambda: None
    """Answers the requests that wait for an event, so that they do not delay a shutdown."""


async def serve_until_signal(service: Service, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then answers the accepted requests and returns.

    Raises ConfigurationError when the address cannot be listened on.
    """
    listener = _listen(host, port)
    server = _Server(service)
    allow_descriptors(server.keeper.limits)

    received: list[int] = []

    # uvicorn raises the signal again after draining, when it has been handled already. A signal before uvicorn installs
    # its handlers would be lost without the flag. The handler must not log, because it may have interrupted a log call.
    def obey(number: int, frame: Any) -> None:
        server.should_exit = True
        received.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, obey)
    logger.info("serving", address=host, port=listener.getsockname()[1])
    await server.serve(sockets=[listener])
    if received:
        logger.info("stopped", signal=signal.Signals(received[0]).name)


@asynccontextmanager
async def serve_in_background(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Serves while the block lasts, without handling signals; yields the port, a free one if ``port`` is 0.

    Raises ConfigurationError when the address cannot be listened on.
    """
    listener = _listen(host, port)
    server = _BackgroundServer(service)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]  # connections wait in the listener's queue until the server takes them
    finally:
        server.stop.set()
        await task


class _Server(uvicorn.Server):
    """Sweeps its connections while it runs. On shutdown it first ends requests that wait for an event."""

    def __init__(self, service: Service) -> None:
        self.keeper = service.keeper
        config = uvicorn.Config(
            service.app,
            loop="none",
            http=partial(HttpConnection, service.keeper),  # type: ignore[arg-type]  # it is only called
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing depends on the sender's address
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=QUEUED_CONNECTIONS,
        )
        super().__init__(config)
        self._end_waits = service.end_waits

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        sweeping = asyncio.create_task(self.keeper.run())
        try:
            await super().serve(sockets)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_waits()
        await super().shutdown(sockets)


class _BackgroundServer(_Server):
    """Stops at once when ``stop`` is set; uvicorn itself polls ten times a second."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.config.date_header = False  # that polling would keep it up to date
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stop.wait()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without an explicit protocol asyncio leaves TCP_NODELAY off, and every answer takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Otherwise a client that reads none of its answer would keep a closed connection, and its buffer, forever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNTAKEN_SECONDS)
    try:
        listener.bind((host, port))
        listener.listen(QUEUED_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {host}:{port} ({error.strerror}): set OUTCOMES_HOST and OUTCOMES_PORT"
        ) from error
    return listener


def allow_descriptors(limits: ConnectionLimits) -> None:
    """Raises this process's limit of file descriptors to what its connections may need, and logs a warning if the
    system allows fewer: without free descriptors no connection is accepted."""
    needed = limits.connections + limits.reserve + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning("file_descriptors_low", limit=allowed, setting="OUTCOMES_MAX_CONNECTIONS")
