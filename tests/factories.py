"""Factories for tests: signed webhook bodies as in the contract, and stored batches."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from service.formant.events import Event, EventDecoder, Unreadable
from service.formant.signature import SIGNATURE_HEADER, sign
from tests.conftest import SECRET

AGENT_ID = 123
BATCH_ID = 456
REF_TOKEN = "feedc0de"
BEGAN = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
RECEIVED = datetime(2026, 3, 16, 10, 32, tzinfo=UTC)

UNSTORABLE_NUMBER = b"0." + b"1" * 17_000
"""A double to every reader, and more digits than Postgres takes."""

_numbers = itertools.count(1)


def make_payload(
    *,
    recipient: int | None = 1,
    attempt: int | None = 1,
    status: str = "completed",
    final: bool = True,
    event_id: str | None = None,
    conversation_id: str | None = None,
    phone: str | None = None,
    parameters: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    agent_id: int = AGENT_ID,
    began: datetime | None = None,
    duration_seconds: int | None = 62,
    ref_token: str = REF_TOKEN,
) -> dict[str, Any]:
    """An event as in the contract. ``recipient`` None omits the reference, ``attempt`` None the retry block."""
    number = next(_numbers)
    began = began or BEGAN + timedelta(hours=attempt or 0)
    ended = began + timedelta(seconds=duration_seconds or 20)
    reference = {} if recipient is None else {"outcome_ref": f"{ref_token}-{recipient}"}
    call = {
        "agent_id": agent_id,
        "call_parameters": {**({"loan_id": f"LN-{recipient}"} if parameters is None else parameters), **reference},
        "conversation_id": conversation_id or f"conversation-{recipient}-{phone}_{attempt}",
        "duration_seconds": duration_seconds if status == "completed" else None,
        "started_at": began.isoformat(),
        "ended_at": ended.isoformat(),
        "failure_reason": None if status == "completed" else status,
        "from_phone": "+918000000000",
        "to_phone": phone or phone_of(recipient or 1),
        "recording_url": None,
        "status": status,
        "trace_id": f"trace-{number}",
    }
    data: dict[str, Any] = {
        "call": call,
        "results": results if results is not None else ({"intent": "promise_to_pay"} if status == "completed" else {}),
        "retry_context": None,
        "transcript": "BOT: Hello\nHUMAN: Yes",
    }
    if attempt is not None:
        data["retry"] = {
            "attempt_number": attempt,
            "max_attempts": 3,
            "is_final_attempt": final,
            "next_retry_at": None if final else (ended + timedelta(hours=1)).isoformat(),
        }
    return {
        "event_id": event_id or f"event-{number}",
        "event_type": f"call.{status}",
        "timestamp": (ended + timedelta(seconds=1)).isoformat(),
        "data": data,
    }


def encode(payload: object) -> bytes:
    """A payload as the body of a webhook."""
    return json.dumps(payload).encode()


def decode(*payloads: object) -> list[Event]:
    """Decodes payloads as the service does; each must be readable."""
    decoder = EventDecoder("outcome_ref")
    events = [decoder.decode_event(encode(payload), "default", RECEIVED, None) for payload in payloads]
    assert not any(isinstance(event, Unreadable) for event in events), events
    return events  # type: ignore[return-value]


def split_events(events: list[Event], sizes: list[int]) -> Iterator[list[Event]]:
    """Yields the events in groups; cycles through the sizes."""
    rest = iter(events)
    for size in itertools.cycle(sizes):
        group = list(itertools.islice(rest, size))
        if not group:
            return
        yield group


def phone_of(recipient: int) -> str:
    """The phone of a recipient of ``store_batch``."""
    return f"+91{7_000_000_000 + recipient}"


async def post_webhook(
    client: httpx.AsyncClient, body: object, *, secret: str = SECRET, path: str = "/webhooks/formant", **headers: str
) -> httpx.Response:
    """Signs and sends a body: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else encode(body)
    signed = {SIGNATURE_HEADER: sign(content, secret), "content-type": "application/json", **headers}
    return await client.post(path, content=content, headers=signed)


async def store_batch(
    url: str,
    recipients: int = 10,
    *,
    batch_id: int | None = BATCH_ID,
    ref_token: str | None = REF_TOKEN,
    agent_id: int = AGENT_ID,
    prepared_at: datetime = BEGAN - timedelta(hours=1),
    first_phone: int = 1,
) -> int:
    """Stores a batch as an upload would have left it; returns its key. Recipient n has phone n and loan LN-n."""
    connection = await asyncpg.connect(url)
    try:
        batch_key: int = await connection.fetchval(
            """
            INSERT INTO batches (batch_id, agent_id, name, status, total_recipients, created_at, prepared_at,
                                 upload_state, ref_token, ref_column, columns, recipient_count)
            VALUES ($1, $2, 'March Follow Ups', 'pending', $3, $4, $4, 'uploaded', $5,
                    CASE WHEN $5::text IS NOT NULL THEN 'outcome_ref' END, '{customer_phone,loan_id}', $3)
            RETURNING batch_key
            """,
            batch_id, agent_id, recipients, prepared_at, ref_token,
        )  # fmt: skip
        await connection.execute(
            """
            INSERT INTO recipients (batch_key, recipient_no, phone, parameters)
            SELECT $1, n, '+91' || 7000000000 + $3::bigint + n - 1, jsonb_build_object('loan_id', 'LN-' || n)
            FROM generate_series(1, $2) AS n
            """,
            batch_key, recipients, first_phone,
        )  # fmt: skip
    finally:
        await connection.close()
    return batch_key
