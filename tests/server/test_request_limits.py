"""Requests that are too large, no HTTP, or HTTP that can be read in two ways (RFC 9112): refused in the one shape that
errors have, whatever part of the service would answer them."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.eventually import eventually
from tests.server.kept import serve_kept
from tests.server.raw_http import split_answers

GET = b"GET / HTTP/1.1\r\nHost: test\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b"3\r\nabc\r\n0\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"

REFUSED = {
    "two lengths that differ": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "the same length twice": (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a length that is no number": (POST + b"Content-Length: abc\r\n\r\n", 400),
    "a length with a sign": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "a length below zero": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a hexadecimal length": (POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "a length of nothing": (POST + b"Content-Length:\r\n\r\n", 400),
    "a length of 5,000 nines": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "a length of 5,000 zeros": (POST + b"Content-Length: " + b"0" * 5000 + b"3\r\n\r\nabc", 400),
    "length and chunks": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "chunks and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + BODY, 400),
    "a coding that is not known": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY, 501),
    "a coding that looks like chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY, 501),
    "chunks that are not last": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + BODY, 400),
    "two codings": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "chunks of HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    "a chunk with a sign": (CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk larger than any": (CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk without its end": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk with a bare line feed": (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    "an extension with a bare line feed": (CHUNKED + b"3;a\nabc\r\n0\r\n\r\n", 400),
    "lines that end with a line feed": (b"GET / HTTP/1.1\nHost: test\n\n", 400),
    "a header that ends with a line feed": (GET + b"X: a\nY: b\r\n\r\n", 400),
    "headers that end with a line feed": (GET + b"\n", 400),
    "a bare carriage return": (GET + b"X: a\rY: b\r\n\r\n", 400),
    "a folded header": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "a folded coding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY, 400),
    "a space before the colon": (POST + b"Content-Length : 3\r\n\r\nabc", 400),
    "a space before the first header": (b"GET / HTTP/1.1\r\n Host: test\r\n\r\n", 400),
    "a NUL": (GET + b"X: a\0b\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: other\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: test\r\n\r\n", 400),
    "a tunnel": (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a tunnel with a body": (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length and chunks under another protocol": (
        POST + UPGRADE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400,
    ),
    "two lengths under another protocol": (
        POST + UPGRADE + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_can_be_read_in_two_ways_is_refused_and_what_follows_it_is_no_request(
    request_bytes: bytes, status: int
) -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(request_bytes + SMUGGLED)
        (answer,) = split_answers(await connection.read_to_end())
        assert answer.status == status
        assert answer.read_problem()[0] == "invalid_request"
        assert b"connection: close\r\n" in answer.head
        assert "/smuggled" not in server.paths
        assert server.count_cut() == {"malformed": 1}


async def test_trailers_are_no_headers() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(CHUNKED + b"3\r\nabc\r\n0\r\nHost: other\r\nX-Trailer: x\r\n\r\n" + GET + b"\r\n")
        assert (await connection.read_answer()).body == b"3"
        assert (await connection.read_answer()).status == 200
        assert server.headers[0] == [(b"host", b"test"), (b"transfer-encoding", b"chunked")]


async def test_the_log_counts_malformed_requests_and_contains_nothing_of_them() -> None:
    with capture_logs() as log:
        async with serve_kept() as server:
            for count in (20, 5):
                for _ in range(count):
                    async with server.connect() as connection:
                        await connection.send(b"+919876543210 secret\r\n\r\n")
                        assert (await connection.read_answer()).status == 400
                server.keeper.log_cuts()
                server.keeper.log_cuts()
    report = [line for line in log if line["event"] == "connections_cut"]
    line = {"event": "connections_cut", "log_level": "warning", "reason": "malformed"}
    assert report == [{**line, "count": 20}, {**line, "count": 5}]
    assert "secret" not in str(log)
    assert "98765" not in str(log)


async def test_a_url_without_end_is_refused() -> None:
    async with serve_kept(head_bytes=1000) as server, server.connect() as connection:
        await connection.send(b"GET /" + b"x" * 500)
        await server.wait_for(head=1)
        await connection.send(b"x" * 500)
        answer = await connection.read_answer()
        assert answer.status == 414
        assert "1000 bytes" in answer.read_problem()[1]
        assert server.count_cut() == {"large_head": 1}


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["without end", "complete"])
async def test_headers_that_are_too_large_are_refused_as_soon_as_they_are(end: bytes) -> None:
    async with serve_kept(head_bytes=1000) as server, server.connect() as connection:
        await connection.send(GET + b"X: " + b"x" * 1000 + end)
        answer = await connection.read_answer()
        assert answer.status == 431
        assert answer.read_problem()[0] == "invalid_request"
        assert server.count_cut() == {"large_head": 1}
        assert server.paths == []


async def test_headers_of_exactly_the_limit_are_accepted_with_a_body_of_any_size() -> None:
    async with serve_kept(head_bytes=1000) as server, server.connect() as connection:
        size = len("/") + len("Hosttest") + len("Content-Length5000") + len("X")
        head = POST + b"Content-Length: 5000\r\nX: " + b"x" * (1000 - size) + b"\r\n\r\n"
        await connection.send(head + b"y" * 5000)
        assert (await connection.read_answer()).body == b"5000"
        await connection.send(head.replace(b"X: ", b"X: x") + b"y" * 5000)
        assert (await connection.read_answer()).status == 431


async def test_a_large_body_is_not_taken_for_the_head_of_the_request_behind_it() -> None:
    async with serve_kept(head_bytes=1000) as server, server.connect() as connection:
        await connection.send(POST + b"Content-Length: 5000\r\n\r\n" + b"y" * 5000 + GET)
        assert (await connection.read_answer()).body == b"5000"
        await connection.send(b"\r\n")
        assert (await connection.read_answer()).status == 200


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["without end", "complete"])
async def test_too_many_headers_are_refused(end: bytes) -> None:
    async with serve_kept(headers=100) as server, server.connect() as connection:
        await connection.send(GET + b"X: x\r\n" * 99 + b"\r\n")
        assert (await connection.read_answer()).status == 200
        await connection.send(GET + b"X: x\r\n" * 100 + b"Y" + b": \r\n" + end)
        assert (await connection.read_answer()).status == 431


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 500, b"0\r\n" + b"X: x\r\n" * 100], ids=["extension", "trailers"])
async def test_what_is_in_a_body_and_is_no_body_has_an_end(endless: bytes) -> None:
    async with serve_kept(head_bytes=1000) as server, server.connect() as connection:
        await connection.send(CHUNKED)
        await server.wait_for(body=1)
        await connection.send(endless)
        await connection.send(b"x" * 600)
        answer = await connection.read_answer()
        assert answer.status == 400
        assert "chunk extensions" in answer.read_problem()[1]


async def test_requests_behind_one_another_are_answered_in_their_order() -> None:
    async with serve_kept(pipelined=8) as server, server.connect() as connection:
        requests = [
            b"POST /%d HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (n, n) + b"x" * n for n in range(9)
        ]
        await connection.send(b"".join(requests))
        for number in range(9):
            assert (await connection.read_answer()).body == str(number).encode()
        assert server.paths == [f"/{number}" for number in range(9)]


async def test_too_many_requests_behind_one_another_are_not_taken() -> None:
    async with serve_kept(pipelined=8) as server, server.connect() as connection:
        held = b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n"
        await connection.send(held * 20)
        await eventually(lambda: server.count_cut() == {"pipelined": 1})
        server.release.set()
        answers = split_answers(await connection.read_to_end())
        assert [answer.status for answer in answers] == [200] * 9  # the one being answered, and eight behind it
        assert b"connection: close\r\n" in answers[-1].head
        assert len(server.paths) == 9


async def test_nothing_is_read_while_requests_wait_for_the_answer_before_theirs() -> None:
    async with serve_kept(pipelined=4) as server, server.connect() as connection:
        await connection.send(b"GET /polling HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        await eventually(lambda: any(each.is_read_paused for each in server.keeper.list_open()))
        await connection.send((GET + b"\r\n") * 4)  # the fourth would be one too many to keep
        for _ in range(20):
            await asyncio.sleep(0)
        server.release.set()
        assert [(await connection.read_answer()).status for _ in range(6)] == [200] * 6
        assert server.count_cut() == {}


async def test_what_is_no_http_behind_a_request_is_refused_once_that_is_answered() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\nno HTTP\r\n\r\n" + SMUGGLED)
        await eventually(server.count_cut)
        server.release.set()
        (answer,) = split_answers(await connection.read_to_end())
        assert answer.status == 200
        assert server.paths == ["/held"]


async def test_a_broken_body_behind_a_request_is_dropped_and_that_one_is_answered() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n" + CHUNKED + b"no size\r\n" + SMUGGLED)
        await eventually(server.count_cut)
        server.release.set()
        (answer,) = split_answers(await connection.read_to_end())
        assert answer.status == 200
        assert server.paths == ["/held"]


async def test_a_broken_rest_of_a_body_gets_no_second_answer() -> None:
    async with serve_kept() as server, server.connect() as connection:
        await connection.send(b"POST /unread HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await connection.read_answer()).status == 200
        await connection.send(b"no size\r\n" + SMUGGLED)
        assert await connection.read_to_end() == b""
        assert server.paths == ["/unread"]
