"""Polls for conditions that give no signal."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.005


async def eventually(
    read: Callable[[], Any], holds: Callable[[Any], object] = bool, *, seconds: float = 30.0
) -> Any:  # fmt: skip
    """Calls ``read``, a function or coroutine function, until its value satisfies ``holds``; returns the value.

    Fails after ``seconds`` with the last value.
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
