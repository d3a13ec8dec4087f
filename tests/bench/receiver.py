"""What the receiver costs per webhook, stored or refused, with its metrics: ``python -m tests.bench.receiver``.

Measures the receiver alone, with a committer that returns at once and without a server, so that microseconds show.
"""

import asyncio
import time
from timeit import timeit
from typing import Any

import structlog
from starlette.types import Message

from service.formant.events import EventDecoder
from service.formant.signature import SIGNATURE_HEADER, sign
from service.formant.targets import load_targets
from service.telemetry.metrics import Metrics
from service.webhooks.backlog import Backlog, BacklogLimits
from service.webhooks.receiver import Receiver
from tests.factories import encode, make_payload

CALLS, ROUNDS = 2000, 20


class InstantCommitter:
    """A committer that has stored every item at once."""

    def refuse_if_behind(self) -> None:
        pass

    def submit(self, item: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


async def measure_receiver(secret: str) -> float:
    """Nanoseconds for a webhook signed with ``secret``: the best of several rounds."""
    metrics, committer = Metrics(), InstantCommitter()
    targets = load_targets(("right",), allow_unsigned=False, path=None)
    decoder, backlog = EventDecoder("outcome_ref"), Backlog(metrics, BacklogLimits())
    receiver = Receiver(targets, decoder, committer, backlog, metrics, max_body_bytes=2**20)  # type: ignore[arg-type]
    body = encode(make_payload())
    headers = [
        (b"host", b"localhost"), (b"content-length", str(len(body)).encode()), (b"content-type", b"application/json"),
        (SIGNATURE_HEADER.lower().encode(), sign(body, secret).encode()),
    ]  # fmt: skip
    scope: dict[str, Any] = {"type": "http", "path": "/webhooks/formant", "method": "POST", "headers": headers}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        pass

    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            await receiver(scope, receive, send)
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e9


def measure_timing() -> float:
    """Nanoseconds spent on timing a webhook: two clock readings and one observation."""
    observe = Metrics().webhook_seconds.observe

    def record() -> None:
        began = time.perf_counter()
        observe("stored", time.perf_counter() - began)

    return min(timeit(record, number=CALLS) for _ in range(ROUNDS)) / CALLS * 1e9


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    for name, secret in (("stored", "right"), ("refused", "wrong")):
        print(f"a webhook that is {name}: {asyncio.run(measure_receiver(secret)):,.0f} ns in the receiver")
    print(f"timing alone: {measure_timing():,.0f} ns")


if __name__ == "__main__":
    main()
