"""The fence around an upload: a process that was paused must not send what another process has taken over."""

from collections.abc import AsyncIterator
from typing import Protocol

import httpx


class Fence(Protocol):
    """The right to send an upload. It expires, and another process may then take over."""

    def holds(self) -> bool:
        """Whether the right is still valid, by this machine's clocks."""

    async def confirm(self) -> None:
        """Checks in the database whether another process has taken over; ``holds`` returns the result."""


class FencedError(Exception):
    """The right to send expired while the request was being written; the rest is not sent."""


class FencedBody(httpx.AsyncByteStream):
    """A request body that stops once its fence no longer holds.

    The fence is checked after the connection opens and before each piece. The last piece is held back until the
    database confirms the fence, so a process paused before that leaves the provider an incomplete request.
    """

    def __init__(self, body: httpx.AsyncByteStream, fence: Fence) -> None:
        self._body = body
        self._fence = fence
        self.has_begun = False
        """Whether any of the body may have been written."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held: bytes | None = None
        await self._confirm()
        async for piece in self._body:
            if held is not None:
                self._check()
                self.has_begun = True
                yield held
            held = piece
        await self._confirm()
        self.has_begun = True
        yield held or b""

    async def _confirm(self) -> None:
        await self._fence.confirm()
        self._check()

    def _check(self) -> None:
        if not self._fence.holds():
            raise FencedError
