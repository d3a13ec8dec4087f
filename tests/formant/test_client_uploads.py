"""What the provider's answer to an upload means: taken, refused, or unknown, in which case nobody may repeat it."""

import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from service.errors import ProviderError
from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.telemetry.metrics import Metrics

CREATED = b'"created_at": "2026-03-16T10:30:00Z"'
TAKEN = (
    b'{"data": {"id": 456, "agent_id": 123, "name": "March", "status": "pending", "total_recipients": 2, %s}}' % CREATED
)


class FallingFence:
    """Holds for so many looks, of which each confirmation is one, and never again."""

    def __init__(self, looks: int = 1000) -> None:
        self.looks = looks

    def holds(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    async def confirm(self) -> None:
        pass


class Provider:
    """Answers every request in one way, and remembers them."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.fence = FallingFence()
        self._answer = answer
        self.bodies: list[bytes] = []
        self.metrics = Metrics()

    def take(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.content)
        return self._answer()

    async def upload(self) -> ProviderBatch:
        transport = httpx.MockTransport(self.take)
        async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
            client = FormantClient(http, self.metrics)
            return await client.upload_batch(123, "March", io.BytesIO(b"customer_phone\n"), self.fence)

    async def fail(self) -> ProviderError:
        """The error that an upload ends with, after exactly one request."""
        with pytest.raises(ProviderError) as failed:
            await self.upload()
        assert len(self.bodies) == 1
        return failed.value

    async def fail_before_the_end(self) -> ProviderError:
        """The error that an upload ends with whose request was never complete."""
        with pytest.raises(ProviderError) as failed:
            await self.upload()
        assert self.bodies == []
        return failed.value

    def count(self, status: int) -> float | None:
        labels = {"operation": "upload_batch", "status": str(status)}
        return self.metrics.registry.get_sample_value("outcomes_provider_calls_total", labels)


def answering(status: int, body: bytes = b"", **headers: str) -> Provider:
    return Provider(lambda: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body)))


def raising(error: Exception) -> Provider:
    def answer() -> httpx.Response:
        raise error

    return Provider(answer)


async def test_a_taken_upload_gives_the_batch() -> None:
    provider = answering(200, TAKEN)
    assert await provider.upload() == ProviderBatch(
        id=456,
        agent_id=123,
        name="March",
        status="pending",
        total_recipients=2,
        created_at=datetime(2026, 3, 16, 10, 30, tzinfo=UTC),
    )
    (body,) = provider.bodies
    for part in (
        b'name="agent_id"\r\n\r\n123',
        b'name="name"\r\n\r\nMarch',
        b'filename="contacts.csv"',
        b"customer_phone\n",
    ):
        assert part in body
    assert provider.count(200) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"id": "456", "agent_id": "123"}}',
        b'{"data": {"id": 456, "agent_id": 123, "status": "some word of next year", "more": [1]}, "meta": {}}',
        b'{"data": {"id": 456, "agent_id": 123, "created_at": "2026-03-16T10:30:00"}}',
    ],
)
async def test_an_answer_that_bends_the_contract_is_still_taken(body: bytes) -> None:
    assert (await answering(201, body).upload()).id == 456


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": {"id": null, "agent_id": 123}}',
        b'{"data": {"id": "b-1", "agent_id": 123}}',
        b'{"data": ' + b"[" * 100_000,
        TAKEN[:-1],
        b"\xff\xfe",
    ],
)
async def test_a_success_that_cannot_be_read_leaves_the_upload_unknown(body: bytes) -> None:
    error = await answering(200, body).fail()
    assert error.is_sent_unknown
    assert (error.status, error.type) == (504, "upload_unknown")
    assert "never sent again" in error.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"id": "456", "agent_id": null, "total_recipients": "many", "created_at": []}}',
        b'{"data": {"id": 456, "agent_id": 123, "name": "\xff", "status": 3}}',
    ],
)
async def test_a_success_with_odd_fields_is_a_success(body: bytes) -> None:
    batch = await answering(200, body).upload()
    assert (batch.id, batch.agent_id, batch.total_recipients, batch.created_at) == (456, 123, None, None)


async def test_a_success_whose_compression_is_broken_leaves_the_upload_unknown() -> None:
    assert (await answering(200, TAKEN, **{"content-encoding": "gzip"}).fail()).is_sent_unknown
    whole = answering(200, gzip.compress(TAKEN), **{"content-encoding": "gzip"})
    assert (await whole.upload()).id == 456


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 301, 302, 303, 304, 307, 308])
async def test_failures_and_redirects_leave_the_upload_unknown_and_are_not_followed(status: int) -> None:
    provider = answering(status, b'{"error": {"message": "m", "type": "t"}}', location="https://elsewhere.test/")
    error = await provider.fail()
    assert error.is_sent_unknown
    assert str(status) in error.message
    assert provider.count(status) == 1


@pytest.mark.parametrize(
    "lost",
    [
        httpx.ReadTimeout("t"),
        httpx.WriteTimeout("t"),
        httpx.ReadError("r"),
        httpx.WriteError("w"),
        httpx.RemoteProtocolError("p"),
        httpx.CloseError("c"),
        httpx.ProxyError("p"),
    ],
)
async def test_an_answer_that_never_came_leaves_the_upload_unknown(lost: Exception) -> None:
    provider = raising(lost)
    error = await provider.fail()
    assert error.is_sent_unknown
    assert error.status == 504
    assert provider.count(0) == 1


@pytest.mark.parametrize("unreached", [httpx.ConnectError("c"), httpx.ConnectTimeout("t"), httpx.PoolTimeout("p")])
async def test_a_provider_that_was_never_reached_was_sent_nothing(unreached: Exception) -> None:
    error = await raising(unreached).fail()
    assert not error.is_sent_unknown
    assert (error.status, error.type) == (502, "provider_unreachable")
    assert "nothing was sent" in error.message


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, "invalid_request"),
        (404, "not_found"),
        (403, "permission_error"),
        (413, "invalid_request"),
        (422, "invalid_request"),
        (429, "concurrent_call_limit_exceeded"),
    ],
)
async def test_a_refusal_is_passed_on_with_the_providers_words(status: int, error_type: str) -> None:
    body = b'{"error": {"message": "bad things", "type": "%s"}}' % error_type.encode()
    error = await answering(status, body).fail()
    assert not error.is_sent_unknown
    if status == 403:
        assert (error.status, error.type) == (502, "authentication_error")
    else:
        assert (error.status, error.type, error.message) == (status, error_type, "The provider answered: bad things")


async def test_a_rate_limit_refusal_says_when_to_retry() -> None:
    body = b'{"error": {"message": "", "type": "rate_limit_exceeded"}}'
    assert (await answering(429, body, **{"retry-after": "17"}).fail()).headers == {"retry-after": "17"}


async def test_an_answer_that_is_no_certain_refusal_leaves_the_upload_unknown() -> None:
    for status, body in ((408, b""), (409, b'{"error": {"type": "duplicate_request"}}'), (429, b"<html>"), (499, b"")):
        error = await answering(status, body).fail()
        assert (error.is_sent_unknown, error.status, error.type) == (True, 504, "upload_unknown"), status


async def test_nothing_is_written_once_the_right_to_send_has_ended() -> None:
    provider = answering(200, TAKEN)
    provider.fence.looks = 0
    with pytest.raises(ProviderError) as failed:
        await provider.upload()
    assert provider.bodies == []
    assert (failed.value.status, failed.value.type, failed.value.is_sent_unknown) == (503, "unavailable", False)
    assert "nothing was sent" in failed.value.message


async def test_the_right_to_send_that_ends_at_any_later_piece_leaves_the_request_incomplete_and_unknown() -> None:
    whole = answering(200, TAKEN)
    await whole.upload()
    needed = 1000 - whole.fence.looks
    assert needed > 10  # every piece is a look
    for looks in range(1, needed):
        provider = answering(200, TAKEN)
        provider.fence.looks = looks
        error = await provider.fail_before_the_end()
        assert error.is_sent_unknown == (looks > 1), looks


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"{}", b'{"error": "text"}', b'{"error": {"message": "\xff"}}', b"[" * 100_000]
)
async def test_a_refusal_that_cannot_be_read_is_a_refusal_all_the_same(body: bytes) -> None:
    error = await answering(400, body).fail()
    assert not error.is_sent_unknown
    assert (error.status, error.type) == (400, "invalid_request")
    assert error.message == "The provider answered: no message, status 400"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_reported_as_our_fault_and_not_as_the_callers(status: int) -> None:
    error = await answering(status, b'{"error": {"message": "no", "type": "authentication_error"}}').fail()
    assert not error.is_sent_unknown
    assert (error.status, error.type) == (502, "authentication_error")
    assert "FORMANT_API_KEY" in error.message


async def test_a_long_message_of_the_provider_is_cut() -> None:
    body = b'{"error": {"message": "%s", "type": "invalid_request"}}' % (b"x" * 10_000)
    assert len((await answering(400, body).fail()).message) < 600
