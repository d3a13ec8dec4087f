"""Requests that wait for the answer to the one before."""

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl


class QueueingFlow(FlowControl):
    """Reads nothing more while there are any ``waiting``: so a connection holds no more of them than came at once."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting:
            super().resume_reading()
