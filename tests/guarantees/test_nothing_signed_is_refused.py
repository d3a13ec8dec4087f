"""A correctly signed body, whatever it contains, is answered 2xx and kept byte for byte, in ledger or quarantine."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.app import open_app
from service.server.process import serve_in_background
from service.settings import read_settings
from service.store.database import connect
from tests.conftest import API_KEY, SECRET
from tests.factories import UNSTORABLE_NUMBER, encode, make_payload, post_webhook, store_batch
from tests.guarantees.recount import find_differences

GOOD = encode(make_payload(recipient=1, event_id="good"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\u0000") | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from(
    [
        ("event_id",), ("event_type",), ("timestamp",), ("data",), ("data", "call"), ("data", "results"),
        ("data", "retry"), ("data", "retry", "attempt_number"), ("data", "retry", "next_retry_at"),
        ("data", "retry", "is_final_attempt"), ("data", "call", "agent_id"), ("data", "call", "conversation_id"),
        ("data", "call", "call_parameters"), ("data", "call", "call_parameters", "outcome_ref"),
        ("data", "call", "duration_seconds"), ("data", "call", "started_at"), ("data", "call", "ended_at"),
        ("data", "call", "failure_reason"), ("data", "call", "to_phone"), ("data", "results", "intent"),
    ]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid event with one or two fields replaced or removed."""
    payload = make_payload(recipient=1)
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(places)
        inner: Any = payload
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            if draw(st.booleans()):
                inner[last] = draw(anything)
            else:
                inner.pop(last, None)
    return json.dumps(payload).encode()


bodies = mutated() | st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), anything)


class Harness:
    """The service, a client and a connection on one loop, for the examples of a property."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        self.runner = runner
        self.client = client
        self.connection = connection
        self._turn = asyncio.Lock()

    async def send(self, body: bytes) -> None:
        """Sends a body and asserts that it is stored."""
        answer = await post_webhook(self.client, body)
        assert answer.status_code == 204, answer.text
        async with self._turn:
            stored = await self.connection.fetchval(
                "SELECT (SELECT count(*) FROM event_bodies WHERE body = $1) "
                "+ (SELECT count(*) FROM quarantine WHERE body = $1)",
                body,
            )
        assert stored == 1


@pytest.fixture
def harness(database_url: str) -> Iterator[Harness]:
    """A harness that is started once for all examples."""
    configured = read_settings(
        {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_API_KEY": API_KEY, "FORMANT_WEBHOOK_SECRET": SECRET}
    )
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Harness:
            await store_batch(database_url, 5)
            service = await stack.enter_async_context(open_app(configured, database_url))
            port = await stack.enter_async_context(serve_in_background(service, "127.0.0.1", 0))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"))
            return Harness(runner, client, await connect(database_url))

        harness = runner.run(start())
        yield harness
        runner.run(harness.connection.close())
        runner.run(stack.aclose())


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=bodies)
@example(body=b"")
@example(body=b"not json")
@example(body=b"[]")
@example(body=b"[" * 10_000)
@example(body=b'{"data":' * 10_000)
@example(body=GOOD.replace(b"promise_to_pay", b"\\u0000"))
@example(body=GOOD.replace(b"promise_to_pay", b"\\ud800"))
@example(body=GOOD.replace(b"promise_to_pay", b"\xff\xfe"))
@example(body=GOOD.replace(b'"promise_to_pay"', b"NaN"))
@example(body=GOOD.replace(b'"promise_to_pay"', b"9" * 400))
@example(body=GOOD.replace(b'"promise_to_pay"', UNSTORABLE_NUMBER))
@example(body=GOOD.replace(b'"promise_to_pay"', b"[" * 5000 + b"]" * 5000))
@example(body=GOOD.replace(b"call.completed", b"call.voicemail"))
@example(body=GOOD.replace(b'"event_id"', b'"event_id": "first", "event_id"'))
@example(body=b"\xef\xbb\xbf" + GOOD)
def test_whatever_is_signed_is_answered_204_and_kept_byte_for_byte(harness: Harness, body: bytes) -> None:
    harness.runner.run(harness.send(body))


def test_an_event_that_the_database_refuses_is_quarantined_and_the_rest_of_its_group_commits(harness: Harness) -> None:
    poison = GOOD.replace(b'"promise_to_pay"', UNSTORABLE_NUMBER)
    neighbours = [encode(make_payload(recipient=number % 5 + 1, attempt=number)) for number in range(1, 21)]

    async def send() -> None:
        await asyncio.gather(*(harness.send(body) for body in [*neighbours[:10], poison, *neighbours[10:]]))
        reasons = await harness.connection.fetch("SELECT event_id, reason, detail FROM quarantine")
        assert [tuple(row) for row in reasons] == [("good", "refused_by_database", "22003")]
        assert await harness.connection.fetchval("SELECT count(*) FROM facts") == len(neighbours)
        assert await find_differences(harness.connection) == []

    harness.runner.run(send())
