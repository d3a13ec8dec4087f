"""The fence around an upload: a process that was paused must not send what another has taken over meanwhile."""

from collections.abc import AsyncIterator
from typing import Protocol

import httpx


class Fence(Protocol):
    """Says whether an upload may still be sent: the right to send it ends, and another may then take it over."""

    def holds(self) -> bool:
        """Whether the right still holds, by this machine's clocks."""

    async def confirm(self) -> None:
        """Asks the database, where what holds may have been settled by another; ``holds`` answers."""


class FencedError(Exception):
    """The right to send ended while the request was being written, so the rest of it was not."""


class FencedBody(httpx.AsyncByteStream):
    """A request's body, of which nothing is written once its fence has fallen.

    The fence is asked after the connection was opened and before each piece, and the last piece is held back until the
    database has confirmed it: a process that was paused anywhere before that leaves the provider half a request.
    """

    def __init__(self, body: httpx.AsyncByteStream, fence: Fence) -> None:
        self._body = body
        self._fence = fence
        self.has_begun = False
        """Whether any of the body may have been written."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held: bytes | None = None
        await self._ask()
        async for piece in self._body:
            if held is not None:
                self._look()
                self.has_begun = True
                yield held
            held = piece
        await self._ask()
        self.has_begun = True
        yield held or b""

    async def _ask(self) -> None:
        await self._fence.confirm()
        self._look()

    def _look(self) -> None:
        if not self._fence.holds():
            raise FencedError
