"""A full server: what waits for its client gives up its slot, an answer in progress keeps it, probes have their own."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.eventually import eventually
from tests.server.kept import DEADLINE_SECONDS, KeptServer, serve_kept
from tests.server.raw_http import RawConnection

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n"


async def ask(connection: RawConnection, request: bytes = GET) -> int:
    """The status of the answer."""
    await connection.send(request)
    return (await connection.read_answer()).status


async def hold_all(server: KeptServer, stack: AsyncExitStack, count: int) -> list[RawConnection]:
    """So many connections that are being answered."""
    connections = [await stack.enter_async_context(server.connect()) for _ in range(count)]
    for connection in connections:
        await connection.send(HELD)
    await server.wait_for(answering=count)
    return connections


async def send_on(connection: RawConnection) -> None:
    """Sends for as long as anybody takes it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.001)


async def test_one_that_never_sent_anything_goes_before_one_that_is_idle() -> None:
    async with serve_kept(connections=2) as server, server.connect() as idle, server.connect() as silent:
        assert await ask(idle) == 200
        await server.wait_for(idle=1, silent=1)
        async with server.connect() as newcomer:
            assert await ask(newcomer) == 200
            assert await silent.read_to_end() == b""
            assert await ask(idle) == 200
        assert server.count_cut() == {"made_room": 1}


async def test_the_one_that_has_been_idle_for_the_longest_goes_first() -> None:
    async with serve_kept(connections=3) as server, AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(server.connect()) for _ in range(3)]
        for number in (1, 0, 2):
            assert await ask(connections[number]) == 200
            await eventually(lambda: not server.keeper.count_stages()["answering"])
            server.sweep_after(1)
        newcomer = await stack.enter_async_context(server.connect())
        assert await ask(newcomer) == 200
        assert await connections[1].read_to_end() == b""
        assert await ask(connections[0]) == 200
        assert await ask(connections[2]) == 200


async def test_a_stalled_head_and_a_stalled_body_are_answered_with_the_time_to_retry() -> None:
    for begun, stage in ((GET[:-2], "head"), (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nx", "body")):
        async with serve_kept(connections=1) as server, server.connect() as slow:
            await slow.send(begun)
            await server.wait_for(**{stage: 1})
            server.sweep_after(1)
            async with server.connect() as newcomer:
                assert await ask(newcomer) == 200
                answer = await slow.read_answer()
                assert answer.status == 503
                assert answer.read_problem()[0] == "unavailable"
                assert await slow.read_to_end() == b""
                with pytest.raises(ConnectionError):  # nobody listens any more: it has no slot even to be refused in
                    await send_on(slow)


async def test_a_body_that_moves_keeps_its_place() -> None:
    async with serve_kept(connections=1, reserve=0) as server, server.connect() as moving:
        await moving.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nx")
        await server.wait_for(body=1)
        server.sweep_after(1)
        await moving.send(b"x")
        await eventually(lambda: any(each.body_bytes == 2 for each in server.keeper.list_open()))
        async with server.connect() as newcomer:
            assert (await newcomer.read_answer()).status == 503
        await moving.send(b"x" * 7)
        assert (await moving.read_answer()).body == b"9"


async def test_who_came_just_now_keeps_its_place() -> None:
    async with serve_kept(connections=1, reserve=0) as server, server.connect() as first:
        await eventually(lambda: server.keeper.count_stages()["silent"])
        async with server.connect() as newcomer:
            assert (await newcomer.read_answer()).status == 503
        assert await ask(first) == 200


async def test_beyond_the_reserve_a_connection_is_answered_503_before_it_has_sent_anything() -> None:
    async with serve_kept(connections=2, reserve=0) as server, AsyncExitStack() as stack:
        held = await hold_all(server, stack, 2)
        async with server.connect() as newcomer:
            answer = await newcomer.read_answer()
            assert answer.status == 503
            assert answer.read_problem()[0] == "unavailable"
            assert b"retry-after: " in answer.head
            assert await newcomer.read_to_end() == b""
        assert server.count_cut() == {"full": 1}
        server.release.set()
        for connection in held:
            assert (await connection.read_answer()).status == 200
        await server.wait_for(idle=2)
        server.sweep_after(1)
        async with server.connect() as newcomer:
            assert await ask(newcomer) == 200


async def test_probes_are_answered_in_a_house_full_of_work_and_nobody_else_is() -> None:
    async with serve_kept(connections=2, reserve=1) as server, AsyncExitStack() as stack:
        await hold_all(server, stack, 2)
        for path, status in ((b"/healthz", 200), (b"/readyz", 200), (b"/metrics", 200), (b"/v1/feed", 503)):
            async with server.connect() as connection:
                await connection.send(b"GET " + path + b" HTTP/1.1\r\nHost: test\r\n\r\n")
                answer = await connection.read_answer()
                assert answer.status == status
                assert b"connection: close\r\n" in answer.head  # the slot is for one answer
                assert await connection.read_to_end() == b""
                if status == 503:
                    assert answer.read_problem()[0] == "unavailable"
                    assert b"retry-after: " in answer.head
        assert server.count_cut() == {"full": 1}
        assert "/v1/feed" not in server.paths


async def test_a_flood_of_silent_connections_takes_no_more_slots_than_there_are() -> None:
    async with serve_kept(connections=20, reserve=5) as server, AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(server.connect())
            server.keeper.sweep()

        def count_cut() -> int:
            server.keeper.sweep()
            return sum(server.count_cut().values())

        await eventually(count_cut, lambda cut: cut >= 175)
        assert len(server.keeper.list_open()) <= 25
        server.keeper.sweep()
        async with server.connect() as genuine:
            assert await ask(genuine) == 200


async def test_silent_connections_take_no_slot_from_probes() -> None:
    async with serve_kept(connections=1, reserve=2) as server, AsyncExitStack() as stack:
        await hold_all(server, stack, 1)
        for _ in range(2):
            await stack.enter_async_context(server.connect())
        await server.wait_for(silent=2)
        async with server.connect() as probe:
            assert await ask(probe, b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n") == 200
        assert server.count_cut() == {"made_room": 1}
