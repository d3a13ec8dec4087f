"""The emulated provider as one object, which runs while it is entered."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from starlette.routing import Route

from service.sandbox.api import Gate, build_app
from service.sandbox.batch_calls import BatchCalls
from service.sandbox.clock import Clock, RunningClock, SteppedClock, Timeline
from service.sandbox.conversations import Conversations
from service.sandbox.deliveries import Deliveries
from service.sandbox.dialler import Dialler
from service.sandbox.events import EventWriter
from service.sandbox.faults import Faults
from service.sandbox.options import OptionError, SandboxOptions
from service.sandbox.other_calls import OtherCalls
from service.sandbox.publisher import Publisher
from service.sandbox.records import Batch, Journal, Records
from service.sandbox.witness import Witness, describe_recipient

_IDS_PER_SECOND = 16
_ID_SECONDS = 2**27
"""A run's batch ids start at 16 times the real time in seconds, so that they do not collide with those of the next run.
They stay below 2**31 and repeat after four years."""


class Sandbox:
    """The provider. ``app`` answers requests; calls are played and webhooks sent while the sandbox is entered.

    ``faults`` can be changed at any time. ``clock`` replaces the one of ``options.speed`` and ``options.start``:
    ``SteppedClock()`` never waits, ``SteppedClock(allowance=0)`` moves only by ``advance()``.
    """

    def __init__(self, options: SandboxOptions, *, faults: Faults | None, clock: Clock | None) -> None:
        self.options = options
        self.seed = secrets.randbits(32) if options.seed is None else options.seed
        self.faults = faults or Faults()
        self.journal = Journal()
        self.clock = clock or RunningClock(options.speed, options.start)
        by_time = int(time.time()) % _ID_SECONDS * _IDS_PER_SECOND + 1
        first = by_time if options.first_batch_id is None else options.first_batch_id
        self.records = Records(first, options.conversation_ids, options.conversations_shown)
        self._deliveries = Deliveries(
            self.faults,
            self.journal,
            concurrency=options.delivery_concurrency,
            timeout_real_seconds=options.delivery_timeout_real_seconds,
        )
        is_stepped = isinstance(self.clock, SteppedClock)
        self._timeline = Timeline(self.clock, self._deliveries.is_idle if is_stepped else self._deliveries.has_room)
        self.writer = EventWriter(options, self.seed)
        self.real_time: Callable[[], float] = time.time
        """The clock of the rate limit; tests assign another one."""
        self.app = Gate(
            build_app(self._build_routes()), options, self.seed, self.faults, self.journal, self._read_real_time
        )
        self._running: asyncio.Task[None] | None = None

    def _read_real_time(self) -> float:
        return self.real_time()

    def _build_routes(self) -> list[Route]:
        publisher = Publisher(
            targets=self.options.targets,
            seed=self.seed,
            writer=self.writer,
            timeline=self._timeline,
            deliveries=self._deliveries,
            faults=self.faults,
            journal=self.journal,
        )
        dialler = Dialler(
            options=self.options,
            seed=self.seed,
            timeline=self._timeline,
            records=self.records,
            faults=self.faults,
            journal=self.journal,
            on_end=publisher.publish,
        )
        self.other_calls = OtherCalls(
            options=self.options, seed=self.seed, timeline=self._timeline, dialler=dialler, writer=self.writer
        )
        batch_calls = BatchCalls(
            options=self.options,
            timeline=self._timeline,
            records=self.records,
            dialler=dialler,
            other_calls=self.other_calls,
            faults=self.faults,
            journal=self.journal,
        )
        conversations = Conversations(self.records, dialler, self.writer, self.faults)
        witness = Witness(self._timeline, self.records, self.faults, self.journal)
        return [*batch_calls.routes(), *self.other_calls.routes(), *conversations.routes(), *witness.routes()]

    async def run(self) -> None:
        """Plays calls and sends webhooks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliveries.run(self._timeline))
            tasks.create_task(self._timeline.run())

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    def now(self) -> float:
        """The provider's current time, in seconds since the epoch."""
        return self._timeline.now()

    async def advance(self, seconds: float) -> None:
        """Advances a ``SteppedClock``; returns when everything due by then has run and no delivery is under way."""
        if not isinstance(self.clock, SteppedClock):
            raise OptionError("only a SteppedClock can be advanced")
        self.clock.allow(seconds)
        self._timeline.wake()
        await self._wait(self._timeline.standing)

    async def wait_until_done(self, batch_id: int) -> None:
        """Returns once a batch has no call left to make and no delivery outstanding."""
        await self._wait(self.find_batch(batch_id).settled)

    def find_batch(self, batch_id: int) -> Batch:
        """The batch; raises ``KeyError`` for an unknown id."""
        return self.records.batches[batch_id]

    def figures(self, batch_id: int) -> dict[str, int | float]:
        """The twelve metrics of a batch."""
        return self.find_batch(batch_id).metrics()

    def recipients(self, batch_id: int) -> Iterator[dict[str, Any]]:
        """The truth per recipient, as ``GET /sandbox/batches/{id}/recipients`` shows it."""
        batch = self.find_batch(batch_id)
        return (describe_recipient(batch, row) for row in range(batch.total))

    async def _wait(self, event: asyncio.Event) -> None:
        """Waits for the event, or until the run ends or fails."""
        if self._running is None:
            raise RuntimeError("the sandbox has to be entered first")
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((waiting, self._running), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self._running.result()
        finally:
            waiting.cancel()
