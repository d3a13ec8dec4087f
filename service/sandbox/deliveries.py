"""Delivers webhooks by the contract's rule, from the contract's section "Webhooks".

Success is any 2xx within the time-out. Network errors, time-outs, 429 and 5xx are tried again, three times in all: at
once, 30 s later, 300 s later. Any other answer is final.
"""

import asyncio
from dataclasses import dataclass

import httpx
import structlog

from service.formant.signature import SIGNATURE_HEADER
from service.sandbox.clock import Timeline
from service.sandbox.faults import Faults
from service.sandbox.options import WebhookTarget
from service.sandbox.records import Attempt, Journal

_RETRY_WAITS_SECONDS = (30.0, 300.0)
_TOO_MANY_REQUESTS = 429
_QUEUED_PER_WORKER = 8
"""The timeline waits when more is queued: a slow receiver slows the emulation instead of filling memory."""

_log = structlog.stdlib.get_logger()


@dataclass(slots=True, eq=False)
class Delivery:
    """A body for a target. A forged one is sent once, and its answer is only counted."""

    attempt: Attempt
    target: WebhookTarget
    target_index: int
    event_id: str
    event_type: str
    body: bytes
    signature: str | None
    is_forged: bool = False
    tries: int = 0


class Deliveries:
    """A queue, and a bounded number of workers that share one HTTP client."""

    def __init__(self, faults: Faults, journal: Journal, *, concurrency: int, timeout_real_seconds: float) -> None:
        self._faults = faults
        self._journal = journal
        self._concurrency = concurrency
        self._timeout = timeout_real_seconds
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._unfinished = 0
        self.is_idle = asyncio.Event()
        self.has_room = asyncio.Event()
        self._note_load(0)

    async def run(self, timeline: Timeline) -> None:
        """Sends queued deliveries until cancelled; plans later attempts on ``timeline``."""
        limits = httpx.Limits(max_connections=self._concurrency, keepalive_expiry=2.0)
        # Receivers are local: ignore the environment's proxy, but not its authorities.
        client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False, verify=httpx.create_ssl_context())  # noqa: S113 - _post has a limit
        async with client, asyncio.TaskGroup() as workers:
            for _ in range(self._concurrency):
                workers.create_task(self._work(client, timeline))

    def enqueue(self, when: float, delivery: Delivery) -> None:
        """Queues a delivery for the next free worker. The timeline calls it."""
        self._queue.put_nowait(delivery)
        self._note_load(1)

    def _note_load(self, change: int) -> None:
        self._unfinished += change
        for event, is_so in (
            (self.is_idle, self._unfinished == 0),
            (self.has_room, self._unfinished < self._concurrency * _QUEUED_PER_WORKER),
        ):
            if is_so:
                event.set()
            else:
                event.clear()

    async def _work(self, client: httpx.AsyncClient, timeline: Timeline) -> None:
        while True:
            delivery = await self._queue.get()
            try:
                if delivery.is_forged:
                    await self._send_forged(client, delivery, timeline)
                else:
                    await self._send(client, delivery, timeline)
            finally:
                self._note_load(-1)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery, timeline: Timeline) -> None:
        delivery.tries += 1
        self._journal.deliveries["attempted"] += 1
        is_out = self._faults.is_out(timeline.now())
        status = None if is_out else await self._post(client, delivery, timeline.now())
        if status is not None and httpx.codes.is_success(status):
            self._finish(delivery, "acknowledged")
        elif status is not None and status != _TOO_MANY_REQUESTS and not httpx.codes.is_server_error(status):
            _log.warning("sandbox_webhook_refused", event_id=delivery.event_id, status=status)
            self._finish(delivery, "refused")
        else:
            self._journal.deliveries["failed"] += 1
            self._plan_next(delivery, status, timeline)

    def _plan_next(self, delivery: Delivery, status: int | None, timeline: Timeline) -> None:
        if delivery.tries > len(_RETRY_WAITS_SECONDS):
            _log.warning("sandbox_webhook_given_up", event_id=delivery.event_id, status=status)
            self._finish(delivery, "given_up")
            return
        wait = _RETRY_WAITS_SECONDS[delivery.tries - 1]
        timeline.call_at(timeline.now() + wait, self.enqueue, delivery)

    def _finish(self, delivery: Delivery, fate: str) -> None:
        self._journal.deliveries[fate] += 1
        fates = delivery.attempt.fates
        if fates[delivery.target_index] != "acknowledged":  # a duplicate may fail after the first arrived
            fates[delivery.target_index] = fate
        delivery.attempt.batch.finish_delivery()

    async def _send_forged(self, client: httpx.AsyncClient, delivery: Delivery, timeline: Timeline) -> None:
        self._journal.forged["sent"] += 1
        status = await self._post(client, delivery, timeline.now())
        if status is not None and httpx.codes.is_success(status):
            self._journal.forged["accepted"] += 1
            _log.warning("sandbox_forgery_accepted", event_id=delivery.event_id)
        delivery.attempt.batch.finish_delivery()

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery, now: float) -> int | None:
        """The status of the answer, or None for a network error or a time-out."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "FormantAI-Webhooks/1.0 (sandbox)",
            "X-FormantAI-Event-Id": delivery.event_id,
            "X-FormantAI-Event-Type": delivery.event_type,
            "X-FormantAI-Timestamp": str(int(now)),
        }
        if delivery.signature is not None:
            headers[SIGNATURE_HEADER] = delivery.signature
        try:
            # The contract limits the whole answer; httpx's time-out limits each read.
            async with asyncio.timeout(self._timeout):
                response = await client.post(delivery.target.url, content=delivery.body, headers=headers)
        except (httpx.HTTPError, TimeoutError):
            return None
        return response.status_code
