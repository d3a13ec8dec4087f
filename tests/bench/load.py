"""The load: signed, unique webhooks of about 1.1 KB, shaped like the contract's example, written as HTTP requests."""

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.formant.signature import sign

SECRET = "bench-secret"
AGENT_ID = 123
REF_TOKEN = "benchtoken"
CALLS_PER_SECOND = 50  # a busy provider; webhooks arrive roughly in the order of their calls
START = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
_UNANSWERED = ("no_answer", "busy", "failed", "unreachable")
_TRANSCRIPT = (
    "BOT: Good morning, this is Asha calling from Example Finance. Am I speaking with the right person?\n"
    "HUMAN: Yes, speaking.\nBOT: I am calling about the instalment that was due on the fifth of this month."
)


def make_bodies(count: int, recipients: int, seed: int = 1) -> Iterator[bytes]:
    """Bodies of first attempts for recipients in random order, then of second attempts for those not reached."""
    dice = random.Random(seed)
    waiting: list[int] = []
    order = dice.sample(range(1, recipients + 1), min(count, recipients))
    for number in range(count):
        if number % 5 == 4 and waiting:
            recipient = waiting.pop(dice.randrange(len(waiting)))
            yield _make_body(dice, recipient, 2, "completed", number)
        else:
            status = "completed" if dice.random() < 0.7 else dice.choice(_UNANSWERED)
            recipient = order[number % len(order)]
            if status != "completed":
                waiting.append(recipient)
            yield _make_body(dice, recipient, 1, status, number)


def _make_body(dice: random.Random, recipient: int, attempt: int, status: str, number: int) -> bytes:
    started = START + timedelta(seconds=number / CALLS_PER_SECOND)
    duration = dice.randrange(20, 300)
    ended = started + timedelta(seconds=duration)
    is_connected = status == "completed"
    results = {
        "intent": dice.choice(("promise_to_pay", "already_paid", "callback_requested", "refused")),
        "sentiment": dice.choice(("positive", "neutral", "negative")),
        "identity_verified": dice.random() < 0.9,
    }
    call = {
        "agent_id": AGENT_ID,
        "call_parameters": {
            "customer_name": "Rahul", "loan_id": f"LN-{recipient}", "due_amount": "29000",
            "outcome_ref": f"{REF_TOKEN}-{recipient}",
        },
        "conversation_id": f"{uuid.UUID(int=dice.getrandbits(128))}_{attempt}",
        "duration_seconds": duration if is_connected else None,
        "started_at": started.isoformat(),
        "ended_at": ended.isoformat() if is_connected else None,
        "failure_reason": None if is_connected else "no answer from the line",
        "from_phone": "+918000000000",
        "to_phone": f"+91{7_000_000_000 + recipient}",
        "recording_url": None,
        "status": status,
        "trace_id": uuid.UUID(int=dice.getrandbits(128)).hex,
    }  # fmt: skip
    retry = {
        "attempt_number": attempt,
        "max_attempts": 3,
        "is_final_attempt": is_connected,
        "next_retry_at": None if is_connected else (started + timedelta(hours=1)).isoformat(),
    }
    data = {
        "call": call, "results": results if is_connected else {}, "retry": retry, "retry_context": None,
        "transcript": _TRANSCRIPT,
    }  # fmt: skip
    event = {
        "event_id": str(uuid.UUID(int=dice.getrandbits(128))),
        "event_type": f"call.{status}",
        "timestamp": ended.isoformat(),
        "data": data,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def write_requests(path: Path, count: int, recipients: int, secret: str = SECRET) -> float:
    """Writes ``count`` requests for ``replay.lua``; returns the mean size of a body in bytes."""
    total = 0
    with path.open("wb") as file:
        for body in make_bodies(count, recipients):
            total += len(body)
            head = (
                "POST /webhooks/formant HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"X-FormantAI-Event-Id: {body[13:49].decode()}\r\nX-FormantAI-Event-Type: call.completed\r\n"
                f"X-FormantAI-Timestamp: 1773657000\r\nX-FormantAI-Signature: {sign(body, secret)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            file.write(b"%08d" % (len(head) + len(body)) + head + body)
    return total / count
