"""The sandbox makes the faults it is asked for and no others."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.formant.signature import SIGNATURE_HEADER, SignatureVerifier
from service.sandbox import (
    Faults,
    RunningSandbox,
    SandboxOptions,
    SteppedClock,
    WebhookTarget,
    sample_contacts,
    serve_sandbox,
)
from service.sandbox.serving import serve_app

SECRET = "a secret"
START = 1_800_000_000.0
CONTACTS = sample_contacts(300, seed=3)
FORM = {"agent_id": "123", "name": "March"}


class Receiver:
    """Keeps every request: (headers, body). Answers 401 when the signature is wrong."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self._verifier = SignatureVerifier([SECRET])

    def is_genuine(self, headers: dict[str, str], body: bytes) -> bool:
        signature = headers.get(SIGNATURE_HEADER.lower(), "")
        return self._verifier.find_secret(body, signature.encode()) is not None

    async def take(self, request: Request) -> Response:
        headers, body = dict(request.headers), await request.body()
        self.received.append((headers, body))
        return Response(status_code=204 if self.is_genuine(headers, body) else 401)

    @property
    def genuine(self) -> list[bytes]:
        return [body for headers, body in self.received if self.is_genuine(headers, body)]


@contextlib.asynccontextmanager
async def run(receiver: Receiver, faults: Faults, **options: Any) -> AsyncIterator[RunningSandbox]:
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    async with serve_app(app) as url:
        target = WebhookTarget(url=f"{url}/hook", secret=SECRET)
        settings = SandboxOptions(**{"targets": (target,), "seed": 5, "lines": 300, "max_attempts": 1, **options})
        async with serve_sandbox(settings, faults=faults, clock=SteppedClock(START)) as running:
            yield running


def connect(running: RunningSandbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=running.base_url, headers={"Authorization": "Bearer sandbox-key"})


async def play(running: RunningSandbox, contacts: str = CONTACTS) -> int:
    async with connect(running) as client:
        answer = await client.post("/v1/batch-call", data=FORM, files={"file": ("c.csv", contacts.encode())})
    answer.raise_for_status()
    batch_id: int = answer.json()["data"]["id"]
    await running.sandbox.wait_until_done(batch_id)
    return batch_id


def read_ids(bodies: list[bytes]) -> list[str]:
    return [msgspec.json.decode(body)["event_id"] for body in bodies]


async def test_without_faults_every_event_arrives_exactly_once() -> None:
    receiver = Receiver()
    async with run(receiver, Faults()) as running:
        await play(running)
    assert len(receiver.received) == len(set(read_ids(receiver.genuine))) == 300


async def test_dropped_events_never_arrive_and_the_witness_names_them() -> None:
    receiver = Receiver()
    async with run(receiver, Faults(drop=0.2)) as running:
        batch_id = await play(running)
        truth = [recipient["attempts"][0] for recipient in running.sandbox.recipients(batch_id)]
    dropped = {attempt["event_id"] for attempt in truth if attempt["deliveries"] == ["dropped"]}
    assert 0.1 < len(dropped) / 300 < 0.3
    assert len(dropped) == running.sandbox.journal.deliveries["dropped"]
    assert set(read_ids(receiver.genuine)) == {attempt["event_id"] for attempt in truth} - dropped


async def test_duplicates_have_the_same_bytes() -> None:
    receiver = Receiver()
    async with run(receiver, Faults(duplicate=0.2)) as running:
        await play(running)
    times = Counter(receiver.genuine)
    assert len(times) == len(set(read_ids(list(times)))) == 300
    assert 0.1 < sum(count == 2 for count in times.values()) / 300 < 0.3


async def test_a_forgery_never_verifies_and_the_genuine_event_still_arrives() -> None:
    receiver = Receiver()
    async with run(receiver, Faults(bad_signature=0.3)) as running:
        await play(running)
    forged = [(headers, body) for headers, body in receiver.received if not receiver.is_genuine(headers, body)]
    journal = running.sandbox.journal
    assert len(forged) == journal.forged["sent"] > 40
    assert journal.forged["accepted"] == 0
    genuine_ids = read_ids(receiver.genuine)
    assert len(genuine_ids) == len(set(genuine_ids)) == 300
    forged_ids = read_ids([body for _, body in forged])
    same_id = [event_id for event_id in forged_ids if event_id in genuine_ids]
    assert 0 < len(same_id) < len(forged)
    first_with_id: dict[str, bool] = {}
    for headers, body in receiver.received:
        first_with_id.setdefault(read_ids([body])[0], receiver.is_genuine(headers, body))
    assert {first_with_id[event_id] for event_id in same_id} == {True, False}


async def test_reordered_and_delayed_events_all_arrive_in_another_order() -> None:
    in_order, shuffled = Receiver(), Receiver()
    async with run(in_order, Faults(), lines=1) as running:
        await play(running)
    async with run(shuffled, Faults(reorder_seconds=3600, delay=0.2), lines=1) as running:
        await play(running)
    assert running.sandbox.journal.deliveries["delayed"] > 30
    assert sorted(in_order.genuine) == sorted(shuffled.genuine)
    assert in_order.genuine != shuffled.genuine


async def test_in_an_outage_nothing_arrives_and_what_outlasts_three_attempts_is_lost() -> None:
    receiver = Receiver()
    async with run(receiver, Faults(outage=(0, 10_000)), lines=1) as running:
        batch_id = await play(running)
        attempts = [recipient["attempts"][0] for recipient in running.sandbox.recipients(batch_id)]
    fates = Counter(attempt["deliveries"][0] for attempt in attempts)
    assert fates["given_up"] > 50
    assert fates["given_up"] + fates["acknowledged"] == 300
    assert len(receiver.received) == fates["acknowledged"]


async def test_an_outage_can_start_during_a_run() -> None:
    receiver = Receiver()
    async with run(receiver, Faults()) as running:
        running.sandbox.faults.begin_outage(running.sandbox.now(), 1e9)
        await play(running)
    assert receiver.received == []


async def test_the_same_seed_gives_the_same_bytes_for_any_number_of_lines() -> None:
    few, many, other = Receiver(), Receiver(), Receiver()
    for receiver, lines, seed in ((few, 300, 5), (many, 300, 5), (other, 300, 6)):
        async with run(receiver, Faults(), lines=lines, seed=seed, first_batch_id=1, max_attempts=3) as running:
            await play(running)
    assert sorted(few.genuine) == sorted(many.genuine)
    assert not set(read_ids(few.genuine)) & set(read_ids(other.genuine))


@pytest.mark.parametrize(("fault", "is_dialled"), [("lost_answer", True), ("refused_after_body", False)])
async def test_an_upload_can_lose_its_answer(fault: Any, is_dialled: bool) -> None:
    async with run(Receiver(), Faults(next_upload=fault)) as running, connect(running) as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/v1/batch-call", data=FORM, files={"file": ("c.csv", CONTACTS.encode())})
        listed = (await client.get("/v1/batch-calls")).json()["data"]
        assert len(listed) == sum(running.sandbox.journal.uploads.values()) == is_dialled
        await play(running)


async def test_a_hanging_upload_is_dialled_and_answered_on_release() -> None:
    faults = Faults(next_upload="hang")
    async with run(Receiver(), faults) as running, connect(running) as client:
        files = {"file": ("c.csv", CONTACTS.encode())}
        upload = asyncio.create_task(client.post("/v1/batch-call", data=FORM, files=files))
        async with connect(running) as other:
            while not (await other.get("/v1/batch-calls")).json()["data"]:
                pass
            assert not upload.done()
            await other.post("/sandbox/faults", json={"release": True})
        answer = await upload
        await running.sandbox.wait_until_done(answer.json()["data"]["id"])


@pytest.mark.parametrize("fault", ["400", "401", "404", "409", "429", "500", "accepted_500"])
async def test_an_upload_can_be_refused_once(fault: Any) -> None:
    async with run(Receiver(), Faults(next_upload=fault)) as running, connect(running) as client:
        files = {"file": ("c.csv", CONTACTS.encode())}
        answer = await client.post("/v1/batch-call", data=FORM, files=files)
        assert answer.status_code == int(fault[-3:])
        assert set(answer.json()["error"]) == {"message", "type"}
        assert ("Retry-After" in answer.headers) is (fault == "429")
        assert len((await client.get("/v1/batch-calls")).json()["data"]) == (fault == "accepted_500")
        await play(running)


async def test_the_api_fails_at_the_given_rate() -> None:
    async with (
        run(Receiver(), Faults(api_500=0.2, api_429=0.2), rate_limit=1000) as running,
        connect(running) as client,
    ):
        statuses = Counter([(await client.get("/v1/batch-calls")).status_code for _ in range(200)])
    assert set(statuses) == {200, 429, 500}
    assert 20 < statuses[500] < 60
    assert 15 < statuses[429] < 55
