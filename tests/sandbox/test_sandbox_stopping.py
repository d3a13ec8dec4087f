"""A sandbox that stops leaves no connection open, whenever it was opened."""

import asyncio
import contextlib
import socket

import pytest
from starlette.applications import Starlette

from service.sandbox.serving import serve_app


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_opened_during_the_stop_is_closed(turns: int) -> None:
    async with serve_app(Starlette()) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        client = socket.create_connection(address)
        for _ in range(turns):
            await asyncio.sleep(0)
    with client:
        client.settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # it was never taken
            assert client.recv(1) == b""
