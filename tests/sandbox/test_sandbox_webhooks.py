"""The sandbox delivers webhooks by the contract's rule, to a real receiver over real HTTP."""

import contextlib
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox import Faults, RunningSandbox, SandboxOptions, SteppedClock, WebhookTarget, serve_sandbox
from service.sandbox.serving import serve_app

SECRET = "a secret"
HEADERS = {"Authorization": "Bearer sandbox-key"}
PHONE = "+919876543210"
CONTACTS = f"customer_phone,customer_name,loan_id\n{PHONE},राहुल,LN-0007\n"
START = 1_800_000_000.0


@dataclass
class Received:
    """One webhook request as received."""

    body: bytes
    headers: dict[str, str]
    now: float

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def is_genuine(self) -> bool:
        expected = "sha256=" + hmac.new(SECRET.encode(), self.body, hashlib.sha256).hexdigest()
        return self.headers.get("x-formantai-signature") == expected


@dataclass
class Receiver:
    """Answers with the given statuses in turn, then 204; records each request and its virtual time."""

    statuses: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    read_clock: Callable[[], float] = lambda: 0.0

    async def take(self, request: Request) -> Response:
        self.received.append(Received(await request.body(), dict(request.headers), self.read_clock()))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 204)


@contextlib.asynccontextmanager
async def run(
    receiver: Receiver, *, faults: Faults | None = None, secret: str | None = SECRET, **options: Any
) -> AsyncIterator[RunningSandbox]:
    clock = SteppedClock(START)
    receiver.read_clock = clock.now
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    async with serve_app(app) as url:
        target = WebhookTarget(url=f"{url}/hook", secret=secret, transcript=True, recording=True)
        settings = SandboxOptions(**{"targets": (target,), "seed": 7, "rate_limit": 10_000, **options})
        async with serve_sandbox(settings, clock=clock, faults=faults) as running:
            yield running


async def play(running: RunningSandbox, contacts: str = CONTACTS) -> int:
    """Uploads a batch and plays it to its end."""
    async with httpx.AsyncClient(base_url=running.base_url, headers=HEADERS) as client:
        form = {"agent_id": "123", "name": "March"}
        answer = await client.post("/v1/batch-call", data=form, files={"file": ("c.csv", contacts.encode())})
    answer.raise_for_status()
    batch_id: int = answer.json()["data"]["id"]
    await running.sandbox.wait_until_done(batch_id)
    return batch_id


def waits(receiver: Receiver) -> list[float]:
    times = [request.now for request in receiver.received]
    return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]


async def test_an_acknowledged_event_arrives_once_in_the_contracts_shape() -> None:
    receiver = Receiver()
    async with run(receiver, script={PHONE: ("completed",)}) as running:
        batch_id = await play(running)
        (truth,) = running.sandbox.recipients(batch_id)
    (request,) = receiver.received
    assert request.is_genuine
    event, attempt = request.event, truth["attempts"][0]
    assert request.headers["x-formantai-event-id"] == event["event_id"] == attempt["event_id"]
    assert request.headers["x-formantai-event-type"] == event["event_type"] == "call.completed"
    assert set(event) == {"event_id", "event_type", "timestamp", "data"}
    assert set(event["data"]) == {"call", "results", "retry", "retry_context", "transcript"}
    call = event["data"]["call"]
    assert call["call_parameters"] == {"customer_name": "राहुल", "loan_id": "LN-0007"}
    assert (call["agent_id"], call["to_phone"], call["status"]) == (123, PHONE, "completed")
    assert call["conversation_id"] == attempt["conversation_id"]
    assert isinstance(call["duration_seconds"], int)
    assert call["recording_url"].startswith(running.base_url)
    assert event["data"]["results"]["intent"]
    assert event["data"]["transcript"].startswith("BOT: ")
    retry = {"attempt_number": 1, "max_attempts": 3, "is_final_attempt": True, "next_retry_at": None}
    assert event["data"]["retry"] == retry
    assert "batch" not in request.body.decode()


async def test_a_failed_delivery_is_repeated_after_30_and_then_300_seconds_with_the_same_bytes() -> None:
    receiver = Receiver([500, 503])
    async with run(receiver, script={PHONE: ("completed",)}) as running:
        await play(running)
    assert waits(receiver) == [30.0, 300.0]
    assert len({request.body for request in receiver.received}) == 1
    sent_at = [int(request.headers["x-formantai-timestamp"]) for request in receiver.received]
    assert len(set(sent_at)) == 3
    assert running.sandbox.journal.deliveries["acknowledged"] == 1


async def test_there_are_three_attempts_and_no_fourth() -> None:
    receiver = Receiver([500] * 10)
    async with run(receiver, script={PHONE: ("completed",)}) as running:
        batch_id = await play(running)
        (truth,) = running.sandbox.recipients(batch_id)
    assert len(receiver.received) == 3
    assert truth["attempts"][0]["deliveries"] == ["given_up"]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422])
async def test_a_4xx_is_final(status: int) -> None:
    receiver = Receiver([status])
    async with run(receiver, script={PHONE: ("completed",)}) as running:
        batch_id = await play(running)
        (truth,) = running.sandbox.recipients(batch_id)
    assert len(receiver.received) == 1
    assert truth["attempts"][0]["deliveries"] == ["refused"]


async def test_429_is_repeated() -> None:
    receiver = Receiver([429])
    async with run(receiver, script={PHONE: ("completed",)}) as running:
        await play(running)
    assert waits(receiver) == [30.0]


async def test_an_unreachable_receiver_is_tried_three_times() -> None:
    options = SandboxOptions(
        targets=(WebhookTarget(url="http://127.0.0.1:9/"),), seed=1, script={PHONE: ("completed",)}
    )
    async with serve_sandbox(options, clock=SteppedClock()) as running:
        await play(running)
        assert running.sandbox.journal.deliveries["failed"] == 3
        assert running.sandbox.journal.deliveries["given_up"] == 1


async def test_an_answer_after_the_time_out_counts_as_no_answer() -> None:
    receiver = Receiver()
    async with run(receiver, script={PHONE: ("completed",)}, delivery_timeout_real_seconds=0.0) as running:
        await play(running)
    assert running.sandbox.journal.deliveries["given_up"] == 1


async def test_a_target_without_a_secret_gets_no_signature() -> None:
    receiver = Receiver()
    async with run(receiver, secret=None, script={PHONE: ("completed",)}) as running:
        await play(running)
    assert "x-formantai-signature" not in receiver.received[0].headers


async def read_blocks(unanswered: str) -> Sequence[dict[str, Any]]:
    receiver = Receiver()
    async with run(receiver, unanswered=unanswered, script={PHONE: ("busy", "completed")}) as running:
        await play(running)
    return [request.event["data"] for request in receiver.received]


async def test_unanswered_calls_carry_what_the_option_says() -> None:
    full, after = await read_blocks("full")
    assert full["results"] == {}
    assert full["retry_context"]["retry_stage_id"]
    assert full["retry"]["is_final_attempt"] is False
    assert full["retry"]["next_retry_at"] > full["call"]["started_at"]
    assert (full["call"]["duration_seconds"], full["call"]["ended_at"]) == (None, None)
    assert after["retry"]["attempt_number"] == 2
    null, _ = await read_blocks("null")
    assert (null["results"], null["retry_context"], null["retry"]["attempt_number"]) == (None, None, 1)
    absent, after = await read_blocks("absent")
    assert not {"results", "retry", "retry_context"} & set(absent)
    assert {"results", "retry", "retry_context"} <= set(after)


async def test_every_target_gets_its_own_events_under_its_own_secret() -> None:
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    async with serve_app(app) as url:
        only_busy = WebhookTarget(url=f"{url}/hook", secret=SECRET, statuses=frozenset({"busy"}))
        all_events = WebhookTarget(url=f"{url}/hook", secret="another")
        options = SandboxOptions(targets=(only_busy, all_events), seed=1, script={PHONE: ("busy", "completed")})
        async with serve_sandbox(options, clock=SteppedClock()) as running:
            batch_id = await play(running)
            (truth,) = running.sandbox.recipients(batch_id)
    assert [request.event["data"]["call"]["status"] for request in receiver.received if request.is_genuine] == ["busy"]
    assert len(receiver.received) == 3
    assert [attempt["deliveries"] for attempt in truth["attempts"]] == [
        ["acknowledged", "acknowledged"],
        ["unwanted", "acknowledged"],
    ]
