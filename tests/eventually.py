"""Waiting for what gives no signal."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.005


async def eventually(
    read: Callable[[], Any], holds: Callable[[Any], object] = bool, *, seconds: float = 30.0
) -> Any:  # fmt: skip
    """Reads again and again, by a function or a coroutine function, until what it gives ``holds``; gives that.

    Fails with the last that was read after ``seconds``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = read()
        if inspect.isawaitable(value):
            value = await value
        if holds(value):
            return value
        assert loop.time() < deadline, f"still {value!r} after {seconds} s"
        await asyncio.sleep(POLL_SECONDS)
