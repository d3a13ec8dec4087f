"""Requests written to the socket by hand, for what no proper client does: stop halfway, say nothing, hang up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from service.formant.signature import SIGNATURE_HEADER, sign
from tests.conftest import SECRET


class RawConnection:
    """One connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def begin_webhook(self, body: bytes, *headers: str) -> None:
        """Sends the head of a webhook that is signed for ``body``, and nothing of the body."""
        head = ["POST /webhooks/formant HTTP/1.1", "Host: test", f"{SIGNATURE_HEADER}: {sign(body, SECRET)}", *headers]
        await self.send("\r\n".join([*head, "", ""]).encode())

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def send_chunk(self, content: bytes) -> None:
        """Sends a piece of a body with ``Transfer-Encoding: chunked``."""
        await self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def read_to_end(self) -> bytes:
        """All that the service sends until it closes the connection."""
        async with asyncio.timeout(20):
            return await self._reader.read()

    async def hang_up(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def connect_raw(service: httpx.AsyncClient) -> AsyncIterator[RawConnection]:
    """A connection to where ``service`` is served."""
    reader, writer = await asyncio.open_connection(service.base_url.host, service.base_url.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
