"""As many webhooks as the service will answer: each connection sends the next one as soon as it gets an answer.

``python -m tests.bench.storm PORT CONNECTIONS SECONDS REQUESTS FROM ACKNOWLEDGED`` prints a JSON object: how many were
sent; for each status the number of answers with p50, p99 and the longest time in ms; how many 503 lacked
``Retry-After``; and how many got no answer. ``FROM`` is the number of requests in the file to skip. The ids of the
events answered 204 are written to ``ACKNOWLEDGED``. A connection that the service closes is reopened, as a sender
would do.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from tests.bench.steady import read_requests


class Storm:
    """Counts what all connections sent and what was answered."""

    def __init__(self, requests: Iterator[bytes], ends: float) -> None:
        self._requests = requests
        self._ends = ends
        self.sent = 0
        self.answered: dict[int, list[float]] = defaultdict(list)
        self.without_retry_after = 0
        self.unanswered = 0
        self.acknowledged: list[bytes] = []

    def next_request(self) -> bytes | None:
        """The next request; None when the time is over."""
        if time.perf_counter() > self._ends:
            return None
        self.sent += 1
        return next(self._requests, None)

    def record(self, request: bytes, head: bytes, seconds: float) -> None:
        """Records an answer."""
        status = int(head[9:12])
        self.answered[status].append(1000 * seconds)
        if status == 204:
            self.acknowledged.append(request.partition(b"Event-Id: ")[2].partition(b"\r\n")[0])
        if status == 503 and b"\r\nretry-after:" not in head.lower():
            self.without_retry_after += 1

    async def send(self, port: int) -> None:
        """Sends over one connection, reopened whenever it is closed."""
        loop = asyncio.get_running_loop()
        while time.perf_counter() < self._ends:
            ended = loop.create_future()
            try:
                await loop.create_connection(lambda: _Connection(self, ended), "127.0.0.1", port)  # noqa: B023
            except OSError:
                self.unanswered += 1
                await asyncio.sleep(0.01)
                continue
            await ended


class _Connection(asyncio.Protocol):
    def __init__(self, storm: Storm, ended: "asyncio.Future[None]") -> None:
        self._storm = storm
        self._ended = ended
        self._received = b""
        self._sent_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own
        self._send()

    def _send(self) -> None:
        request = self._storm.next_request()
        if request is None:
            self._sent_at = None
            self._transport.close()
        else:
            self._request = request
            self._sent_at = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length or 0) or self._sent_at is None:
            return
        self._storm.record(self._request, head, time.perf_counter() - self._sent_at)
        self._received, self._sent_at = b"", None
        if b"\r\nconnection: close" in head.lower():
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._storm.unanswered += self._sent_at is not None
        if not self._ended.done():
            self._ended.set_result(None)


async def main(port: int, connections: int, seconds: float, requests: Iterator[bytes], output: Path) -> None:
    """Sends for ``seconds``, waits for the last answers, and prints the figures."""
    began = time.perf_counter()
    storm = Storm(requests, began + seconds)
    await asyncio.gather(*(storm.send(port) for _ in range(connections)))
    answers = {}
    for status, times in sorted(storm.answered.items()):
        times.sort()
        p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
        answers[status] = {"count": len(times), "p50_ms": p50, "p99_ms": p99, "longest_ms": times[-1]}
    output.write_bytes(b"\n".join(storm.acknowledged))
    figures = {
        "seconds": time.perf_counter() - began, "sent": storm.sent, "answers": answers,
        "without_retry_after": storm.without_retry_after, "unanswered": storm.unanswered,
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    uvloop.run(
        main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), read_requests(Path(sys.argv[4]), int(sys.argv[5])),
             Path(sys.argv[6]))
    )  # fmt: skip
