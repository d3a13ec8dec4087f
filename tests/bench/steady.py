"""A steady stream of webhooks: each is sent when it is due, whether or not earlier ones were answered.

``python -m tests.bench.steady PORT PER_SECOND SECONDS REQUESTS OUTPUT`` writes a line for each: when it was due (Unix
time), the seconds from then to its answer, and the status.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class Stream:
    """Connections to the receiver: enough that no request waits for the answer to another."""

    def __init__(self, port: int, output: Path) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._output = output.open("w")

    async def send(self, request: bytes, due: float) -> None:
        """Sends one request and records the seconds from its due time to the answer."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        self._free.append((reader, writer))
        print(f"{due:.6f} {time.time() - due:.6f} {answer[9:12].decode()}", file=self._output, flush=True)


def read_requests(path: Path, skipped: int = 0) -> Iterator[bytes]:
    """The requests that ``load.write_requests`` wrote, except the first ``skipped`` ones."""
    with path.open("rb") as file:
        for number in itertools.count():
            size = file.read(8)
            if not size:
                return
            request = file.read(int(size))
            if number >= skipped:
                yield request


async def main(port: int, per_second: float, seconds: float, requests: Path, output: Path) -> None:
    """Sends for ``seconds``."""
    stream = Stream(port, output)
    began = time.time()
    sending = set()
    for number, request in enumerate(read_requests(requests)):
        due = began + number / per_second
        if due - began > seconds:
            break
        await asyncio.sleep(max(0.0, due - time.time()))
        sending.add(asyncio.create_task(stream.send(request, due)))
    await asyncio.gather(*sending)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5])))
