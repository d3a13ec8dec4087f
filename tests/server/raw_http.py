"""Requests written to the socket by hand, for what no proper client does: stop halfway, say nothing, hang up."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from service.formant.signature import SIGNATURE_HEADER, sign
from tests.conftest import SECRET


class RawAnswer(NamedTuple):
    """An answer's status line and headers, and its body."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def read_problem(self) -> tuple[str, str]:
        """The type and the message of an error, in the one shape that errors have."""
        assert b"content-type: application/json\r\n" in self.head
        (problem,) = json.loads(self.body).values()
        assert problem.keys() == {"message", "type"}
        return problem["type"], problem["message"]


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

    async def read_answer(self) -> "RawAnswer":
        """One answer with its length; the connection may stay open."""
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            return RawAnswer(head, await self._reader.readexactly(int(length[1])) if length else b"")

    async def wait_until_closed(self) -> None:
        """Returns once the service has closed the connection, be it that what was sent to it was left unread."""
        with contextlib.suppress(ConnectionResetError):
            await self.read_to_end()

    async def read_to_end_of(self, size_bytes: int) -> bytes:
        """At least so many bytes, or all that there are."""
        content = bytearray()
        async with asyncio.timeout(20):
            while len(content) < size_bytes and (some := await self.read_some()):
                content += some
        return bytes(content)

    async def read_some(self) -> bytes:
        """Whatever comes next."""
        return await self._reader.read(2**16)

    async def hang_up(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def connect_raw(service: httpx.AsyncClient) -> AsyncIterator[RawConnection]:
    """A connection to where ``service`` is served."""
    assert service.base_url.port
    async with connect_to(service.base_url.port) as connection:
        yield connection


@asynccontextmanager
async def connect_to(port: int) -> AsyncIterator[RawConnection]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()


def split_answers(content: bytes) -> list[RawAnswer]:
    """All that a connection brought, answer by answer."""
    answers = []
    while content:
        head, _, rest = content.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        answers.append(RawAnswer(head + b"\r\n\r\n", rest[:size]))
        content = rest[size:]
    return answers
