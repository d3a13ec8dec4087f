"""A network that can go silent: a proxy before Postgres that stops forwarding and closes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit


class Network:
    """Forwards bytes both ways until silenced; new connections are then accepted, but hang too."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def silence(self) -> None:
        """Stops forwarding."""
        self._open.clear()

    def restore(self) -> None:
        """Forwards what was held back, and everything that follows."""
        self._open.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket_path)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._forward(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(2**16):
                await self._open.wait()
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()

    async def close(self) -> None:
        """Ends all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def open_network(url: str) -> AsyncIterator[tuple[Network, str]]:
    """Opens a network in front of the server of ``url``; yields it and the address of the database through it."""
    parts = urlsplit(url)
    network = Network(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432")
    server = await asyncio.start_server(network.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield network, f"postgresql://postgres@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        server.close()
        await network.close()
