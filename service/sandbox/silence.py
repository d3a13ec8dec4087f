"""An upload that gets no answer: what a client meets when the network fails at the worst moment."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.sandbox.faults import Faults

CLOSE_CONNECTION = "sandbox.close_connection"
"""The ASGI extension, given by ``serving``, that closes the client's connection at once."""


class Silence(Response):
    """Closes the connection without a word."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        close = scope.get("extensions", {}).get(CLOSE_CONNECTION)
        if close is None:
            raise ConnectionResetError("No answer (a fault of the sandbox), and this server cannot close connections.")
        close()
        await _wait_for_disconnect(receive)


class LateAnswer(Response):
    """Sends ``answer`` once the faults are released; nothing if the client goes away before."""

    def __init__(self, answer: Response, faults: Faults) -> None:
        super().__init__()
        self._answer = answer
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        release = asyncio.ensure_future(self._faults.wait_for_release())
        leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((release, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await self._answer(scope, receive, send)
        finally:
            release.cancel()
            leaving.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
