"""An answer that ends the connection while its client is still sending: the client gets to read it, and what it goes on
sending is discarded within bounds of bytes and seconds."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.conftest import StartService
from tests.server.kept import DEADLINE_SECONDS, serve_kept
from tests.server.raw_http import RawConnection

HEAD = b"POST /closing HTTP/1.1\r\nHost: test\r\n"
SENT_BYTES = 50 * 2**20


def make_pieces(size_bytes: int) -> Iterator[bytes]:
    for _ in range(size_bytes // 2**16):
        yield b"x" * 2**16


async def send_on(connection: RawConnection) -> None:
    while True:
        await connection.send(b"x" * 10_000)


def send_whole(port: int, *, has_length: bool) -> tuple[int, str]:
    """Sends a webhook of 50 MB with a client that reads nothing before it has sent all; the answer's status and
    message."""
    headers = {"Content-Length": str(SENT_BYTES)} if has_length else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request("POST", "/webhooks/formant", make_pieces(SENT_BYTES), headers, encode_chunked=not has_length)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["message"]
    finally:
        connection.close()


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunks"])
async def test_a_client_that_sends_50_mb_before_it_reads_gets_the_413(
    start_service: StartService, has_length: bool
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES="100000") as service:
        for _ in range(3):
            status, message = await asyncio.to_thread(send_whole, service.base_url.port or 0, has_length=has_length)
            assert status == 413
            assert "OUTCOMES_MAX_BODY_BYTES" in message


async def test_the_end_of_the_answer_is_reported_at_once_and_the_rest_is_discarded() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 200 ")  # which ends with the server's sending
        await server.wait_for(refused=1)
        await connection.send(b"x" * 900_000)
        await connection.hang_up()
        await server.wait_for(refused=0, closing=0)
        assert server.paths == ["/closing"]
        assert server.count_cut() == {}


async def test_a_request_behind_it_is_discarded_too() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(HEAD + b"Content-Length: 3\r\n\r\nabc" + HEAD + b"\r\n")
        assert (await connection.read_to_end()).count(b"HTTP/1.1 200 ") == 1
        assert server.paths == ["/closing"]


async def test_a_client_that_sends_no_end_is_closed_after_its_seconds() -> None:
    async with serve_kept(linger_seconds=10) as server, server.connect() as connection:
        await connection.send(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        await server.wait_for(refused=1)
        for _ in range(9):
            await connection.send(b"x")
            server.sweep_after(1)
        assert server.keeper.count_stages()["refused"] == 1
        server.sweep_after(1)
        await server.wait_for(refused=0, closing=0)


@pytest.mark.parametrize("path", [b"closing", b"unread"])
async def test_a_client_that_sends_too_much_is_closed_after_its_bytes(path: bytes) -> None:
    async with serve_kept(linger_bytes=1_000_000) as server, server.connect() as connection:
        await connection.send(HEAD.replace(b"closing", path) + b"Content-Length: 1000000000\r\n\r\nx")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_on(connection), DEADLINE_SECONDS)
        await server.wait_for(refused=0, rest=0)
        assert server.count_cut() == {"unread_body": 1}


async def test_one_that_lingers_makes_room_for_a_newcomer() -> None:
    async with serve_kept(connections=1, reserve=0) as server, server.connect() as lingering:
        await lingering.send(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        await server.wait_for(refused=1)
        server.sweep_after(1)
        async with server.connect() as newcomer:
            await newcomer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await newcomer.read_answer()).status == 200
        assert server.count_cut() == {"made_room": 1}


async def test_stopping_does_not_wait_for_it() -> None:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        AsyncExitStack() as clients,
        serve_kept(linger_seconds=1e9) as server,
    ):
        connection = await clients.enter_async_context(server.connect())
        await connection.send(HEAD + b"Content-Length: 1000000\r\n\r\nx")
        await server.wait_for(refused=1)
