"""The webhooks of a soak: a steady stream, each sent when it is due; most are new, some repeated, forged or unusable.
Event n is computed from n alone, so only its result is kept in memory."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from service.formant.signature import SIGNATURE_HEADER, sign
from tests.bench.load import AGENT_ID, SECRET

PREFIX = "soak-"
BATCH_RECIPIENTS = 10_000
ATTEMPTS = 2
BATCH_EVENTS = BATCH_RECIPIENTS * ATTEMPTS
AWAITED_SECONDS = 30.0
UNSENT, ACKNOWLEDGED, REFUSED, UNKNOWN = range(4)
_START = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
_KINDS = {9: "again", 29: "again", 49: "forged", 69: "unusable"}  # per hundred webhooks; the others are new
_STATUSES = ("completed", "no_answer", "completed", "busy", "completed", "unreachable", "failed")


def ref_token(batch: int) -> str:
    """The reference token of a batch, numbered from 0."""
    return f"soaktoken{batch}"


def make_event(number: int) -> bytes:
    """The body of event ``number``, from 0: first attempts to all recipients of a batch, then second ones."""
    batch, place = divmod(number, BATCH_EVENTS)
    attempt, recipient = place // BATCH_RECIPIENTS + 1, place % BATCH_RECIPIENTS + 1
    status = _STATUSES[(recipient + attempt) % len(_STATUSES)]
    is_connected, is_final = status == "completed", status == "completed" or attempt == ATTEMPTS
    started = _START + timedelta(seconds=number // 50)
    call = {
        "agent_id": AGENT_ID,
        "call_parameters": {"loan_id": f"LN-{recipient}", "outcome_ref": f"{ref_token(batch)}-{recipient}"},
        "conversation_id": f"{batch}-{recipient}_{attempt}",
        "duration_seconds": 20 + recipient % 280 if is_connected else None,
        "started_at": started.isoformat(),
        "ended_at": (started + timedelta(seconds=60)).isoformat(),
        "failure_reason": None if is_connected else status,
        "to_phone": f"+91{7_000_000_000 + recipient}",
        "status": status,
    }
    retry = {
        "attempt_number": attempt,
        "max_attempts": ATTEMPTS,
        "is_final_attempt": is_final,
        "next_retry_at": None if is_final else (started + timedelta(hours=1)).isoformat(),
    }
    data = {
        "call": call,
        "results": {"intent": ("promise_to_pay", "refused", "callback")[recipient % 3]} if is_connected else {},
        "retry": retry,
        "transcript": "BOT: Good morning, am I speaking with the right person?\nHUMAN: Yes, speaking.\n" * 4,
    }
    event = {
        "event_id": f"{PREFIX}{number}",
        "event_type": f"call.{status}",
        "timestamp": (started + timedelta(seconds=61)).isoformat(),
        "data": data,
    }
    return json.dumps(event, separators=(",", ":")).encode()


class Stream:
    """Sends events; keeps one byte for each in ``results``: acknowledged, refused, or never answered."""

    def __init__(self, port: int, per_second: float) -> None:
        self.results = bytearray()
        self.unusable = 0
        """The number of acknowledged bodies that are not events."""
        self.unexpected: list[str] = []
        """Answers with an unexpected status."""
        self._port = port
        self._per_second = per_second
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._latencies: list[float] = []

    def take_latencies(self) -> list[float]:
        """The seconds from due time to answer of each webhook since the last call."""
        taken, self._latencies = self._latencies, []
        return taken

    async def run(self, prepare_batch: Callable[[int], Awaitable[None]]) -> None:
        """Sends until cancelled, then waits for requests in flight. ``prepare_batch`` stores a batch by its number."""
        sending: set[asyncio.Task[None]] = set()
        began, count = time.monotonic(), 0
        try:
            while True:
                kind = _KINDS.get(count % 100, "new")
                if kind == "new":
                    if len(self.results) % BATCH_EVENTS == 0:
                        await prepare_batch(len(self.results) // BATCH_EVENTS)
                    self.results.append(UNSENT)
                due = began + count / self._per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._send_kind(kind, len(self.results) - 1, count, due))
                sending.add(task)
                task.add_done_callback(sending.discard)
                count += 1
        finally:
            if sending:
                await asyncio.wait(sending, timeout=AWAITED_SECONDS)
            for _, writer in self._free:
                writer.close()

    async def _send_kind(self, kind: str, number: int, count: int, due: float) -> None:
        match kind:
            case "new":
                self.results[number] = {204: ACKNOWLEDGED, None: UNKNOWN}.get(
                    await self._send(make_event(number), due), REFUSED
                )
            case "again":
                number = count * 7919 % (number + 1)
                status = await self._send(make_event(number), due)
                if status == 204:
                    self.results[number] = ACKNOWLEDGED
                elif status is not None and status != 503:
                    self.unexpected.append(f"event {number} again: {status}")
            case "forged":
                status = await self._send(make_event(count), due, secret="forged")
                if status not in {401, 503, None}:
                    self.unexpected.append(f"a forged webhook: {status}")
            case "unusable":
                status = await self._send(b"no event %d" % count, due)
                self.unusable += status == 204
                if status not in {204, 503, None}:
                    self.unexpected.append(f"a body that is not an event: {status}")

    async def _send(self, body: bytes, due: float, secret: str = SECRET) -> int | None:
        """Returns the status; None if no answer came."""
        head = (
            f"POST /webhooks/formant HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"{SIGNATURE_HEADER}: {sign(body, secret)}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        try:
            async with asyncio.timeout(AWAITED_SECONDS):
                reader, writer = await self._connect()
                writer.write(head + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                if (length := _read_length(answer)) > 0:
                    await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None
        if b"connection: close" in answer.lower():
            writer.close()
        else:
            self._free.append((reader, writer))
        self._latencies.append(time.monotonic() - due)
        return int(answer[9:12])

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An idle connection that the service has not closed, or a new one."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


def _read_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
