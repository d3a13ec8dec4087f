"""Reads from the provider: repeated as the contract allows, after as long as the provider asks for."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import stamina
import stamina.instrumentation
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ProviderError
from service.formant.batches import ProviderMetrics
from service.formant.client import READ_ATTEMPTS, FormantClient, open_http, read_wait
from service.telemetry.metrics import Metrics

BATCH = b'{"data": {"id": 456, "agent_id": 123}}'


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Repeats without the waits between."""
    with stamina.set_testing(True, attempts=READ_ATTEMPTS):
        yield


class Provider:
    """Gives the answers in their turn: a status, a body for a 200, or an error that is raised."""

    def __init__(self, *answers: int | bytes | Exception | httpx.Response) -> None:
        self._answers = list(answers)
        self.paths: list[str] = []

    def take(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        return httpx.Response(answer) if isinstance(answer, int) else answer

    @asynccontextmanager
    async def client(self) -> AsyncIterator[FormantClient]:
        transport = httpx.MockTransport(self.take)
        async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
            yield FormantClient(http, Metrics())

    async def fail(self) -> ProviderError:
        async with self.client() as client:
            with pytest.raises(ProviderError) as failed:
                await client.get_batch(456)
        return failed.value


async def test_reads_go_to_the_contracts_paths() -> None:
    provider = Provider(BATCH, b'{"data": {"completed_count": 420, "success_rate": 84, "new_count": 1}}')
    async with provider.client() as client:
        assert (await client.get_batch(456)).agent_id == 123
        assert await client.get_metrics(456) == ProviderMetrics(completed_count=420, success_rate=84.0)
    assert provider.paths == ["/v1/batch-calls/456", "/v1/batch-calls/456/metrics"]


@pytest.mark.parametrize(
    "trouble",
    [429, 500, 502, 503, httpx.ConnectError("c"), httpx.ReadTimeout("t"), httpx.RemoteProtocolError("p"), b"garbage",
     b'{"data": {"id": 457, "agent_id": 123}}', b'{"data": ' + b"[" * 100_000],
)  # fmt: skip
async def test_a_read_is_repeated_after_trouble_that_may_pass(trouble: int | bytes | Exception) -> None:
    provider = Provider(trouble, trouble, BATCH)
    async with provider.client() as client:
        assert (await client.get_batch(456)).id == 456
    assert len(provider.paths) == 3


@pytest.mark.parametrize(
    ("status", "expected"), [(400, 400), (404, 404), (409, 409), (401, 502), (403, 502), (302, 502)]
)
async def test_a_read_that_is_refused_is_never_repeated(status: int, expected: int) -> None:
    provider = Provider(status, BATCH)
    assert (await provider.fail()).status == expected
    assert len(provider.paths) == 1


@pytest.mark.parametrize("trouble", [500, httpx.ReadTimeout("t"), b"garbage"])
async def test_a_lasting_failure_is_reported_as_the_providers(trouble: int | bytes | Exception) -> None:
    provider = Provider(*[trouble] * 10)
    error = await provider.fail()
    assert (error.status, error.is_sent_unknown) == (502, False)
    assert len(provider.paths) == READ_ATTEMPTS


class WouldWaitError(Exception):
    """Raised in the place of waiting."""


@contextmanager
def catching_waits() -> Iterator[list[float]]:
    waits: list[float] = []

    def stop(details: stamina.instrumentation.RetryDetails) -> None:
        waits.append(details.wait_for)
        raise WouldWaitError

    with stamina.set_testing(False):
        stamina.instrumentation.set_on_retry_hooks([stop])
        try:
            yield waits
        finally:
            stamina.instrumentation.set_on_retry_hooks([])


async def test_a_rate_limited_read_is_repeated_after_the_requested_seconds_and_not_before() -> None:
    provider = Provider(httpx.Response(429, headers={"retry-after": "17"}), BATCH)
    with catching_waits() as waits:
        async with provider.client() as client:
            with pytest.raises(WouldWaitError):
                await client.get_batch(456)
    assert waits == [17.0]


async def test_a_read_that_would_wait_too_long_is_refused_with_the_time_to_retry() -> None:
    provider = Provider(httpx.Response(429, headers={"retry-after": "600"}), BATCH)
    error = await provider.fail()
    assert (error.status, error.headers) == (429, {"retry-after": "600"})
    assert len(provider.paths) == 1


def too_fast(**headers: str) -> int:
    return read_wait(httpx.Response(429, headers={name.replace("_", "-"): value for name, value in headers.items()}))


def test_seconds_to_wait_are_whole_and_at_least_one() -> None:
    assert [too_fast(retry_after=value) for value in ("0", "1.5", "7", " 42 ")] == [1, 2, 7, 42]


def test_a_date_to_wait_for_is_turned_into_seconds() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 <= too_fast(retry_after=format_datetime(later, usegmt=True)) <= 90


def test_without_a_usable_retry_after_the_limits_reset_is_waited_for() -> None:
    later = (datetime.now(UTC) + timedelta(seconds=90)).isoformat()
    assert 80 <= too_fast(x_ratelimit_reset=later) <= 90
    assert 80 <= too_fast(retry_after="soon", x_ratelimit_reset=later) <= 90
    assert too_fast(retry_after="3", x_ratelimit_reset=later) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry_after": ""},
        {"retry_after": "soon"},
        {"retry_after": "-5"},
        {"retry_after": "9" * 5000},
        {"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"},
        {"retry_after": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"},
        {"x_ratelimit_reset": "2015-10-21T07:28:00Z"},
        {"x_ratelimit_reset": "2015-10-21T07:28:00"},
        {"x_ratelimit_reset": "tomorrow"},
    ],
)
def test_what_is_absent_past_or_no_time_means_one_second(headers: dict[str, str]) -> None:
    assert too_fast(**headers) == 1


_dates = st.tuples(st.integers(), st.integers(), st.text("+-0123456789:GMT ", max_size=12)).map(
    lambda parts: f"Wed, {parts[0]} Oct {parts[1]} 07:28:00 {parts[2]}"
)


@settings(deadline=None, derandomize=True)
@given(value=st.binary(max_size=40) | _dates.map(str.encode))
def test_any_header_gives_a_number_of_seconds(value: bytes) -> None:
    for name in (b"retry-after", b"x-ratelimit-reset"):
        assert read_wait(httpx.Response(429, headers=[(name, value)])) >= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_with_our_key_and_is_no_answer_to_our_caller(status: int) -> None:
    asked: list[tuple[str, str]] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.headers["authorization"]))
        return httpx.Response(status, headers={"location": "https://elsewhere.test/steal"})

    async with open_http("https://provider.test", "our-key") as http:
        http._transport = httpx.MockTransport(redirect)
        with pytest.raises(ProviderError) as caught:
            await FormantClient(http, Metrics()).get_batch(456)
    assert caught.value.status == 502
    assert set(asked) == {("provider.test", "Bearer our-key")}
