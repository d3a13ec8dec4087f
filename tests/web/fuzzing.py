"""What the fuzz tests share: the service on a loop of the test's own, requests written to its socket byte by byte, and
a look at what was kept of them."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import asyncpg
import httpx

from service.formant.signature import SIGNATURE_HEADER, sign
from service.store.database import connect
from tests.conftest import SECRET, make_starter
from tests.factories import store_batch

ANSWER_SECONDS = 20.0
AT_ONCE = 16
TURNS = 4  # of the loop, which the service shares: after them it has most likely read what was sent
T = TypeVar("T")


class Answer(NamedTuple):
    """What came back on a connection that the service closes after it."""

    status: int
    head: bytes
    body: bytes


class Fuzzed:
    """A running service. Each call here runs the loop until it is done: hypothesis and schemathesis know no loop."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        self.client = client
        self._runner = runner
        self._connection = connection

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return self._runner.run(coroutine)

    def exchange(self, *pieces: bytes) -> Answer:
        """Sends bytes as they are, one piece after the other, and reads until the service closes the connection; fails
        when it never does."""
        return self.run(self._exchange(pieces))

    def exchange_all(self, requests: Sequence[bytes]) -> list[Answer]:
        """The answers to many requests, some at a time."""

        async def exchange(gate: asyncio.Semaphore, request: bytes) -> Answer:
            async with gate:
                return await self._exchange([request])

        async def exchange_all() -> list[Answer]:
            gate = asyncio.Semaphore(AT_ONCE)
            return await asyncio.gather(*(exchange(gate, request) for request in requests))

        return self.run(exchange_all())

    def send_and_close(self, request: bytes) -> int | None:
        """Sends bytes and ends the sending; the status of the first answer, None where the connection only closed."""
        return self.run(self._send_and_close(request))

    def count_kept(self, body: bytes) -> int:
        """In how many places this very body is kept."""
        kept: int = self.run(
            self._connection.fetchval(
                "SELECT (SELECT count(*) FROM event_bodies WHERE body = $1) "
                "+ (SELECT count(*) FROM quarantine WHERE body = $1)",
                body,
            )
        )
        return kept

    def count_all(self) -> int:
        """How many bodies are kept in all."""
        count: int = self.run(
            self._connection.fetchval("SELECT (SELECT count(*) FROM event_bodies) + (SELECT count(*) FROM quarantine)")
        )
        return count

    async def _exchange(self, pieces: Sequence[bytes]) -> Answer:
        reader, writer = await asyncio.open_connection(self.client.base_url.host, self.client.base_url.port)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for piece in pieces:
                    writer.write(piece)
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
                received = await reader.read()
        finally:
            writer.close()
        *_, received = received.rpartition(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), received
        return Answer(int(head[9:12]), head, body)

    async def _send_and_close(self, request: bytes) -> int | None:
        reader, writer = await asyncio.open_connection(self.client.base_url.host, self.client.base_url.port)
        received = b""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(request)
                writer.write_eof()
                received = await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else None


@contextmanager
def open_fuzzed(database_url: str) -> Iterator[Fuzzed]:
    """The service on a database with a batch of five, for all the examples of a property."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Fuzzed:
            await store_batch(database_url, 5)
            client = await stack.enter_async_context(make_starter(database_url)())
            connection = await connect(database_url)
            stack.push_async_callback(connection.close)
            return Fuzzed(runner, client, connection)

        fuzzed = runner.run(start())
        try:
            yield fuzzed
        finally:
            runner.run(stack.aclose())


def signed_headers(body: bytes) -> dict[str, str]:
    """The headers of a webhook with this body."""
    return {SIGNATURE_HEADER: sign(body, SECRET), "content-type": "application/json"}
