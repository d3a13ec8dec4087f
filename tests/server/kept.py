"""A server with an application of a few lines, whose limits are small and whose time stands still until it is moved."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.types import Receive, Scope, Send

from service.server.limits import ConnectionKeeper, ConnectionLimits
from service.server.process import Service, serve_in_background
from tests.eventually import eventually
from tests.server.raw_http import RawConnection, connect_to

NEVER_SECONDS = 1e9
DEADLINE_SECONDS = 20.0


class Clock:
    """Shows the time that it was moved to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class KeptServer:
    """An application that answers the length of a body, and its server's keeper.

    ``/held`` and ``/polling`` wait for ``release``, which the latter does after it has read the body, watching for its
    client to hang up. ``/unread`` reads no body; ``/closing`` neither, and closes the connection; ``/large`` answers
    ``large_bytes``, in pieces of ``piece_bytes``.
    """

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.cut: Counter[tuple[str, ...]] = Counter()
        self.keeper = ConnectionKeeper(
            ConnectionLimits(clock=self.clock, sweep_seconds=NEVER_SECONDS, **limits), self.cut
        )
        self.release = asyncio.Event()
        self.large_bytes = 2**23
        self.piece_bytes = 2**30
        self.disconnected = asyncio.Event()
        self.paths: list[str] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        self.headers.append(scope["headers"])
        if scope["path"] == "/held":
            await self.release.wait()
        body = b""
        if scope["path"] == "/large":
            body = bytes(self.large_bytes)
        elif scope["path"] not in {"/unread", "/closing"}:
            size = await self._read(receive)
            if size is None:
                return
            body = str(size).encode()
            if scope["path"] == "/polling":
                leaving = asyncio.create_task(self._read(receive))
                await self.release.wait()
                leaving.cancel()
        headers = [(b"content-length", str(len(body)).encode())]
        if scope["path"] == "/closing":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while len(body) > self.piece_bytes:
            piece, body = body[: self.piece_bytes], body[self.piece_bytes :]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": body})

    async def _read(self, receive: Receive) -> int | None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return None
            size += len(message["body"])
            more = message["more_body"]
        return size

    def connect(self) -> AbstractAsyncContextManager[RawConnection]:
        """A connection to it."""
        return connect_to(self.port)

    def sweep_after(self, seconds: float) -> None:
        """Moves the time, and has the keeper look."""
        self.clock.now += seconds
        self.keeper.sweep()

    async def wait_for(self, **stages: int) -> None:
        """Returns once so many connections are at these stages, and has the keeper see it."""
        await eventually(lambda: stages.items() <= self.keeper.count_stages().items())
        self.keeper.sweep()

    def count_cut(self) -> dict[str, int]:
        """How many connections were refused or cut off, by reason."""
        return {reason: count for (reason,), count in self.cut.items()}


@asynccontextmanager
async def serve_kept(**limits: Any) -> AsyncIterator[KeptServer]:
    """Serves one with these limits for connections."""
    server = KeptServer(**limits)
    async with serve_in_background(Service(server, server.keeper), "127.0.0.1", 0) as server.port:
        try:
            yield server
        finally:
            server.release.set()
