"""A steady stream of webhooks, sent when each is due, whatever became of those before it.

``python -m tests.bench.steady PORT PER_SECOND SECONDS REQUESTS OUTPUT`` writes a line for each: when it was due (Unix
time), how many seconds later its answer had come, and the answer's status.
"""

import asyncio
import sys
import time
from pathlib import Path


class Stream:
    """Connections to the receiver: as many as are needed for no request to wait for another's answer."""

    def __init__(self, port: int, output: Path) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._output = output.open("w")

    async def send(self, request: bytes, due: float) -> None:
        """Sends one request and writes down how long it took since it was due."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        self._free.append((reader, writer))
        print(f"{due:.6f} {time.time() - due:.6f} {answer[9:12].decode()}", file=self._output, flush=True)


def read_requests(path: Path) -> list[bytes]:
    """The requests that ``load.write_requests`` wrote."""
    content, position, requests = path.read_bytes(), 0, []
    while position < len(content):
        size = int(content[position : position + 8])
        requests.append(content[position + 8 : position + 8 + size])
        position += 8 + size
    return requests


async def main(port: int, per_second: float, seconds: float, requests: Path, output: Path) -> None:
    """Sends until the time is over."""
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


asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5])))
