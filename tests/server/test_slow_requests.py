"""Clients that are slow, or never come to an end: each is cut off after its time, and no sooner."""

import asyncio
import operator
from functools import partial

from tests.eventually import eventually
from tests.server.kept import DEADLINE_SECONDS, serve_kept

HEAD = b"POST / HTTP/1.1\r\nHost: test\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n"


async def test_a_connection_that_never_sends_anything_is_closed() -> None:
    async with serve_kept(head_seconds=10) as server, server.connect() as connection:
        await server.wait_for(silent=1)
        server.sweep_after(9.9)
        assert server.count_cut() == {}
        server.sweep_after(0.1)
        assert await connection.read_to_end() == b""
        assert server.count_cut() == {"silent": 1}


async def test_empty_lines_are_no_request() -> None:
    async with serve_kept(head_seconds=10) as server, server.connect() as connection:
        await connection.send(b"\r\n" * 10)
        await server.wait_for(silent=1)
        server.sweep_after(10)
        assert await connection.read_to_end() == b""


async def test_headers_that_drip_are_cut_off_however_they_drip() -> None:
    async with serve_kept(head_seconds=10) as server, server.connect() as connection:
        await connection.send(HEAD)
        await server.wait_for(head=1)
        for _ in range(9):
            await connection.send(b"X-More: 1\r\n")
            server.sweep_after(1)
        assert server.count_cut() == {}
        server.sweep_after(1)
        await server.wait_for(refused=1)
        answer = await connection.read_answer()
        assert answer.status == 503  # after a 408 the provider would never send its webhook again
        assert answer.read_problem() == ("unavailable", "The headers did not arrive within 10 s")
        assert b"retry-after: " in answer.head
        assert await connection.read_to_end() == b""
        assert server.count_cut() == {"slow_head": 1}
        assert server.paths == []


async def test_headers_of_a_further_request_have_a_time_of_their_own() -> None:
    async with serve_kept(head_seconds=10, idle_seconds=75) as server, server.connect() as connection:
        await connection.send(NEXT)
        assert (await connection.read_answer()).status == 200
        await server.wait_for(idle=1)
        server.sweep_after(74)
        await connection.send(NEXT[:10])
        await server.wait_for(head=1)
        server.sweep_after(9)
        await connection.send(NEXT[10:])
        assert (await connection.read_answer()).status == 200


async def test_an_idle_connection_is_closed_after_its_time_which_a_request_starts_again() -> None:
    async with serve_kept(idle_seconds=75) as server, server.connect() as connection:
        for _ in range(2):
            await connection.send(NEXT)
            assert (await connection.read_answer()).status == 200
            await server.wait_for(idle=1)
            server.sweep_after(74)
        server.sweep_after(1)
        assert await connection.read_to_end() == b""
        assert server.count_cut() == {}, "that is as it should be"


async def test_a_stalled_body_is_cut_off_and_the_application_gets_the_disconnect() -> None:
    async with serve_kept(stalled_seconds=10) as server, server.connect() as connection:
        await connection.send(HEAD + b"Content-Length: 100\r\n\r\n")
        await server.wait_for(body=1)
        server.sweep_after(9)
        await connection.send(b"x")
        await eventually(lambda: any(each.body_bytes for each in server.keeper.list_open()))
        server.sweep_after(9)
        assert server.count_cut() == {}
        server.sweep_after(9.9)
        assert server.count_cut() == {}
        server.sweep_after(0.1)
        answer = await connection.read_answer()
        assert answer.status == 503
        assert "Nothing of the body arrived for 10 s" in answer.read_problem()[1]
        assert await connection.read_to_end() == b""
        await asyncio.wait_for(server.disconnected.wait(), DEADLINE_SECONDS)
        assert server.count_cut() == {"slow_body": 1}


async def test_a_body_that_drips_is_cut_off_once_patience_is_over() -> None:
    async with (
        serve_kept(stalled_seconds=10, body_bytes_per_second=100, rate_grace_seconds=30) as server,
        server.connect() as slow,
        server.connect() as fast,
    ):
        for connection in (slow, fast):
            await connection.send(HEAD + b"Content-Length: 10000\r\n\r\n")
        await server.wait_for(body=2)
        for second in range(1, 31):
            await slow.send(b"x" * 50)
            await fast.send(b"x" * 101)
            await eventually(
                lambda: sum(each.body_bytes for each in server.keeper.list_open()), partial(operator.le, second * 151)
            )
            assert server.count_cut() == {}
            server.sweep_after(1)
        answer = await slow.read_answer()
        assert answer.status == 503
        assert "less than 100 bytes per second" in answer.read_problem()[1]
        await fast.send(b"x" * (10000 - 30 * 101))
        assert (await fast.read_answer()).body == b"10000"
        assert server.count_cut() == {"slow_body": 1}


async def test_a_client_that_waits_for_us_is_not_held_to_be_slow() -> None:
    async with (
        serve_kept(stalled_seconds=10, head_seconds=10, idle_seconds=10) as server,
        server.connect() as answering,
        server.connect() as reading,
    ):
        await answering.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n")
        await reading.send(b"POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n")
        sending = asyncio.create_task(reading.send(b"x" * 1_000_000))  # more than is read before it is wanted
        await eventually(lambda: any(each.is_read_paused for each in server.keeper.list_open()))
        await server.wait_for(answering=1, body=1)
        for _ in range(10):
            server.sweep_after(100)
        server.release.set()
        await sending
        assert (await answering.read_answer()).status == 200
        assert (await reading.read_answer()).body == b"1000000"
        assert server.count_cut() == {}


async def test_input_after_the_answer_is_read_for_a_while_and_then_no_more() -> None:
    async with serve_kept(linger_seconds=10) as server, server.connect() as connection:
        await connection.send(b"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nx")
        assert (await connection.read_answer()).status == 200
        await server.wait_for(rest=1)
        server.sweep_after(9)
        await connection.send(b"x" * 99 + NEXT)  # who comes to its end in time goes on
        assert (await connection.read_answer()).status == 200
        await connection.send(b"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nx")
        assert (await connection.read_answer()).status == 200
        await server.wait_for(rest=1)
        for _ in range(10):
            await connection.send(b"x")
            server.sweep_after(1)
        await connection.wait_until_closed()
        assert server.count_cut() == {"unread_body": 1}


async def test_a_refused_client_that_goes_on_sending_is_closed() -> None:
    async with serve_kept(linger_seconds=10) as server, server.connect() as connection:
        await connection.send(b"no HTTP\r\n\r\n")
        await server.wait_for(refused=1)
        server.sweep_after(9)
        assert server.keeper.count_stages()["refused"] == 1
        server.sweep_after(1)
        await server.wait_for(refused=0, closing=0)


async def test_an_answer_of_which_too_little_is_taken_is_broken_off() -> None:
    async with (
        serve_kept(answer_bytes_per_second=1000, rate_grace_seconds=30, idle_seconds=1e9) as server,
        server.connect() as slow,
        server.connect() as fast,
    ):
        for connection in (slow, fast):
            await connection.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        await server.wait_for(idle=2)  # what is left is the server's to hand over
        server.sweep_after(59)
        assert server.count_cut() == {}
        left = sum(each.transport.get_write_buffer_size() for each in server.keeper.list_open())
        took = 0
        while sum(each.transport.get_write_buffer_size() for each in server.keeper.list_open()) > left - 2**20:
            took += len(await fast.read_some())
        server.sweep_after(1)
        assert server.count_cut() == {"untaken": 1}
        assert len(await slow.read_to_end()) < server.large_bytes
        assert took + len(await fast.read_to_end_of(server.large_bytes - took)) >= server.large_bytes


async def test_unread_answers_are_bounded_in_total_and_the_largest_is_dropped_first() -> None:
    async with (
        serve_kept(untaken_bytes=33 * 2**20, idle_seconds=1e9) as server,
        server.connect() as large,
        server.connect() as small,
    ):
        server.large_bytes = 32 * 2**20  # of each, the system takes a few MB off the server's hands
        await large.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        await server.wait_for(idle=1)
        assert server.count_cut() == {}
        server.large_bytes = 16 * 2**20
        await small.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        await eventually(lambda: server.keeper.count_stages()["idle"] >= 2)
        server.keeper.sweep()
        assert server.count_cut() == {"untaken": 1}
        assert len(await large.read_to_end()) < 32 * 2**20
        assert len(await small.read_to_end_of(server.large_bytes)) >= server.large_bytes


async def test_a_client_that_waits_for_100_continue_does_not_count_as_slow() -> None:
    async with serve_kept(stalled_seconds=10) as server, server.connect() as connection:
        await connection.send(b"POST /held HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        await server.wait_for(body=1)
        server.sweep_after(100)
        server.release.set()
        assert (await connection.read_answer()).status == 100
        await connection.send(b"x")
        assert (await connection.read_answer()).body == b"1"
        assert server.count_cut() == {}


async def test_the_time_that_a_client_waited_for_us_is_not_counted_against_it_afterwards() -> None:
    async with serve_kept(stalled_seconds=10) as server, server.connect() as connection:
        await connection.send(b"POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 100001\r\n\r\n" + b"x" * 100_000)
        await eventually(lambda: any(each.body_bytes == 100_000 for each in server.keeper.list_open()))
        assert [each.is_read_paused for each in server.keeper.list_open()] == [True]
        await server.wait_for(body=1)
        server.sweep_after(100)
        server.release.set()
        await eventually(lambda: not any(each.is_read_paused for each in server.keeper.list_open()))
        server.sweep_after(9)
        await connection.send(b"x")
        assert (await connection.read_answer()).body == b"100001"


async def test_an_answer_that_is_made_as_it_is_taken_may_take_its_time() -> None:
    async with (
        serve_kept(answer_bytes_per_second=1000, rate_grace_seconds=30, idle_seconds=1e9) as server,
        server.connect() as connection,
    ):
        server.large_bytes, server.piece_bytes = 24 * 2**20, 2**20
        await connection.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        took, stops = 0, 0
        for _ in range(2):
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not any(each.stops > stops and each.is_write_paused for each in server.keeper.list_open()):
                    took += len(await connection.read_some()) if stops else 0
                    await asyncio.sleep(0)
            (stops,) = [each.stops for each in server.keeper.list_open()]
            server.sweep_after(61)
            assert server.count_cut() == {}
        rest = await connection.read_to_end_of(server.large_bytes - took)
        assert took + len(rest) >= server.large_bytes
