"""Offers to change the protocol, as the JDK's HttpClient and ``curl --http2`` make them by default: answered as
HTTP/1.1 with the whole body, whatever its framing, and nothing of the body passes for a request."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.server.kept import serve_kept
from tests.server.raw_http import split_answers

POST = b"POST /%s HTTP/1.1\r\nHost: test\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n"


def frame_by_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def frame_by_chunks(body: bytes) -> bytes:
    pieces = [body[:1], body[1:]] if len(body) > 1 else [body]
    chunks = b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces if piece)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Trailer: x\r\n\r\n"


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {"length": frame_by_length, "chunks": frame_by_chunks}
OTHERS = {
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n",
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "h2c among others": b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
    "h2c and another": b"Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "HTTP/2.0": b"Connection: keep-alive, upgrade\r\nUpgrade: HTTP/2.0\r\n",
}


@pytest.mark.parametrize("frame", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("body", [b"", b"x", SMUGGLED, b"y" * 200_000], ids=["empty", "a byte", "a request", "large"])
async def test_an_offer_of_h2c_is_answered_as_http_1_1_and_the_connection_stays_open(
    frame: Callable[[bytes], bytes], body: bytes
) -> None:
    async with serve_kept() as server, server.connect() as connection:
        for _ in range(3):
            await connection.send(POST % b"upgrade" + H2C + frame(body))
            answer = await connection.read_answer()
            assert (answer.status, answer.body) == (200, b"%d" % len(body))
            assert b"connection:" not in answer.head
        await connection.send(NEXT)
        assert (await connection.read_answer()).status == 200
        assert server.paths == ["/upgrade"] * 3 + ["/next"]
        assert server.count_cut() == {}


@pytest.mark.parametrize("frame", FRAMINGS.values(), ids=FRAMINGS)
async def test_it_may_come_in_any_pieces(frame: Callable[[bytes], bytes]) -> None:
    request = POST % b"upgrade" + H2C + frame(SMUGGLED)
    for size in (1, 7, len(request) - 1):
        async with serve_kept() as server, server.connect() as connection:
            for start, end in pairwise([*range(0, len(request), size), len(request)]):
                await connection.send(request[start:end])
                await asyncio.sleep(0)
            await connection.send(NEXT)
            assert (await connection.read_answer()).body == b"%d" % len(SMUGGLED)
            assert (await connection.read_answer()).status == 200
            assert server.paths == ["/upgrade", "/next"]


async def test_requests_behind_one_another_may_each_offer_it() -> None:
    async with serve_kept(pipelined=8) as server, server.connect() as connection:
        await connection.send(b"".join(POST % b"%d" % n + H2C + frame_by_length(b"x" * n) for n in range(9)))
        for number in range(9):
            assert (await connection.read_answer()).body == b"%d" % number
        assert server.paths == [f"/{number}" for number in range(9)]


async def test_a_body_may_wait_to_be_asked_for() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(POST % b"upgrade" + H2C + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await connection.read_answer()).status == 100
        await connection.send(b"abc" + NEXT)
        assert (await connection.read_answer()).body == b"3"
        assert (await connection.read_answer()).status == 200


async def test_an_offer_in_http_1_0_is_none() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(b"POST /old HTTP/1.0\r\n" + H2C + frame_by_length(SMUGGLED))
        (answer,) = split_answers(await connection.read_to_end())
        assert answer.body == b"%d" % len(SMUGGLED)
        assert server.paths == ["/old"]


@pytest.mark.parametrize("offer", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("body", [b"", SMUGGLED], ids=["no body", "body"])
async def test_after_an_offer_of_anything_else_the_connection_carries_no_further_request(
    offer: bytes, body: bytes
) -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(POST % b"upgrade" + offer + frame_by_length(body) + SMUGGLED)
        (answer,) = split_answers(await connection.read_to_end())
        assert (answer.status, answer.body) == (200, b"%d" % len(body))
        assert b"connection: close\r\n" in answer.head
        assert server.paths == ["/upgrade"]


async def test_the_head_is_held_to_its_limits() -> None:
    async with serve_kept(headers=10) as server, server.connect() as connection:
        await connection.send(POST % b"upgrade" + H2C + b"X: x\r\n" * 10 + frame_by_length(b"abc"))
        assert (await connection.read_answer()).status == 431
        assert server.paths == []
