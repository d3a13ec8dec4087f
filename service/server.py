"""Runs an ASGI application under uvicorn inside a program of ours: until a signal, or for as long as a block lasts."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

logger = structlog.get_logger()

DRAIN_SECONDS = 15  # more than a webhook can wait for its commit
IDLE_SECONDS = 75


def _make_server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the sender's address
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=2048,
    )
    return uvicorn.Server(config)


async def serve_until_signal(app: ASGIApp, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then answers what it has accepted and returns."""
    server = _make_server(app, host, port)

    # uvicorn raises the signal again once it has drained; it has been obeyed by then.
    def obeyed(number: int, frame: Any) -> None:
        logger.info("stopped", signal=signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, obeyed)
    announce = asyncio.create_task(_announce(server, host))
    await server.serve()
    announce.cancel()


@asynccontextmanager
async def serve_in_background(app: ASGIApp, host: str, port: int) -> AsyncIterator[int]:
    """Serves while the block lasts; gives the port, which is a free one when ``port`` is 0."""
    server = _make_server(app, host, port)
    server.capture_signals = _capture_nothing  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    try:
        yield await _wait_for_port(server, task)
    finally:
        server.should_exit = True
        await task


async def _announce(server: uvicorn.Server, host: str) -> None:
    port = await _wait_for_port(server, None)
    logger.info("serving", address=host, port=port)


async def _wait_for_port(server: uvicorn.Server, task: "asyncio.Task[None] | None") -> int:
    while not server.started:
        if task is not None and task.done():
            await task
            raise RuntimeError("the server ended before it had started")
        await asyncio.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _capture_nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
