"""The provider's HTTP API (contract, "Batch calls" and "Conversations"). Reads are retried as the contract allows;
uploads are never retried.

A 429 is retried after its ``Retry-After``, a 500 or a lost answer with exponential back-off, 400/401/404 never.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import stamina
from opentelemetry.trace import SpanKind

from service.certificates import describe_failure
from service.errors import ConfigurationError, ProviderError
from service.formant.batches import (
    BatchList,
    BatchPage,
    OddEntry,
    ProviderBatch,
    ProviderMetrics,
    decode_batch,
    decode_batch_page,
    decode_metrics,
)
from service.formant.conversations import Conversation, ConversationPage, decode_conversation, decode_conversation_page
from service.formant.fencing import Fence, FencedBody, FencedError
from service.formant.listing import PAGE_ROWS, ListWalk
from service.formant.refusals import UNDECODABLE, is_certain_refusal, read_problem
from service.http_dates import read_date, read_retry_after
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import note, span

READ_ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 30.0
GREATEST_SKEW_SECONDS = 2.0

_Shape = TypeVar("_Shape")
_NON_RETRYABLE = ("authentication_error", "provider_redirected")


class Pacer(Protocol):
    """Decides when the provider may be called. A read with a pacer waits only for the pacer between attempts."""

    def spend(self) -> AbstractAsyncContextManager[Callable[[httpx.Response], None]]:
        """Enters when a call may be made; yields a function that takes the answer. Leaving without an answer means that
        none arrived."""


class FormantClient:
    """Calls the provider with our API key. Every failure raises ProviderError."""

    def __init__(self, http: httpx.AsyncClient, metrics: Metrics, pacer: Pacer | None = None) -> None:
        self._http = http
        self._metrics = metrics
        self._pacer = pacer

    async def upload_batch(self, agent_id: int, name: str, file: BinaryIO, fence: Fence) -> ProviderBatch:
        """Uploads a CSV, once. ``ProviderError.is_sent_unknown``: people may be called nevertheless."""
        with span("provider", kind=SpanKind.CLIENT, operation="upload_batch", agent_id=agent_id) as traced:
            request = self._http.build_request(
                "POST",
                "/v1/batch-call",
                data={"agent_id": str(agent_id), "name": name},
                files={"file": ("contacts.csv", file, "text/csv")},  # it refuses other endings
            )
            assert isinstance(request.stream, httpx.AsyncByteStream)
            request.stream = body = FencedBody(request.stream, fence)
            try:
                response = await self._http.send(request)
            except Exception as error:
                self._count("upload_batch", 0)
                raise _explain_no_answer(error, body) from error
            note(traced, status=response.status_code)
        self._count("upload_batch", response.status_code)
        if response.is_success:
            try:
                batch = decode_batch(response.content)
            except UNDECODABLE as error:
                raise _lost_answer("its answer could not be read") from error
            batch.agent_id, batch.name = batch.agent_id or agent_id, batch.name or name
            return batch
        if is_certain_refusal(response.status_code, response.content):
            raise _refusal(response)
        raise _lost_answer(f"it answered {response.status_code}")

    async def get_batch(self, batch_id: int) -> ProviderBatch:
        path = f"/v1/batch-calls/{batch_id}"
        return await self._read("get_batch", path, partial(decode_batch, batch_id=batch_id))

    async def get_metrics(self, batch_id: int) -> ProviderMetrics:
        """The provider's figures of one batch; an absent or impossible figure is None."""
        return await self._read("get_metrics", f"/v1/batch-calls/{batch_id}/metrics", decode_metrics)

    async def list_conversations(self, agent_id: int, limit: int, offset: int) -> ConversationPage:
        """One page of an agent's calls, in the provider's undocumented order. New calls shift the pages."""
        params = {"agent_id": agent_id, "limit": limit, "offset": offset}
        return await self._read("list_conversations", "/v1/conversations", decode_conversation_page, params)

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """One call with its results. When attempts share the id, the provider returns one of them: check its times.

        Raises ProviderError with status 404 for an unknown id.
        """
        path = f"/v1/conversations/{quote(conversation_id, safe='')}"
        return await self._read("get_conversation", path, decode_conversation)

    def walk_batches(self, agent_id: int | None = None) -> ListWalk[BatchPage]:
        """The list of batches, page by page. New batches shift the pages, so one may appear twice."""

        async def fetch(offset: int) -> BatchPage:
            params = {"limit": PAGE_ROWS, "offset": offset} | ({} if agent_id is None else {"agent_id": agent_id})
            return await self._read("list_batches", "/v1/batch-calls", decode_batch_page, params)

        return ListWalk(fetch)

    async def list_batches(self, agent_id: int | None = None) -> BatchList:
        """The whole list. Raises ProviderError where it cannot be read to its end, because then no batch is known to be
        missing."""
        walk = self.walk_batches(agent_id)
        batches: dict[int, ProviderBatch] = {}
        odd: dict[int, OddEntry] = {}  # by their place in the list, since pages overlap
        begin = walk.offset
        while (page := await walk.read()) is not None:
            batches |= {batch.id: batch for batch in page.data}
            odd |= {begin + place: entry for place, entry in page.odd.items()}
            begin = walk.offset
        if walk.ending != "end":
            raise ProviderError(
                f"The provider's list of batches cannot be read to its end ({walk.ending})",
                status=502,
                error_type="internal_error",
            )
        return BatchList(batches, list(odd.values()))

    async def _read(
        self, operation: str, path: str, decode: Callable[[bytes], _Shape], params: dict[str, int] | None = None
    ) -> _Shape:
        """Reads, with retries where the contract allows them. With a pacer, only the pacer waits."""
        is_paced = self._pacer is not None
        async for attempt in stamina.retry_context(
            on=_retry_at_once if is_paced else _retry_after, attempts=READ_ATTEMPTS, timeout=None if is_paced else 60.0
        ):
            with attempt:
                response = await self._get(operation, path, params)
                if not response.is_success:
                    raise _refusal(response)
                try:
                    return decode(response.content)
                except UNDECODABLE as error:
                    raise ProviderError(
                        "The provider's answer could not be read", status=502, error_type="internal_error"
                    ) from error
        raise AssertionError("unreachable: the last attempt raises")

    async def _get(self, operation: str, path: str, params: dict[str, int] | None) -> httpx.Response:
        async with self._pacer.spend() if self._pacer else nullcontext(lambda response: None) as record:
            try:
                with span("provider", kind=SpanKind.CLIENT, operation=operation) as traced:
                    response = await self._http.get(path, params=params)
                    note(traced, status=response.status_code)
            except httpx.HTTPError as error:
                self._count(operation, 0)
                raise ProviderError(
                    f"The provider did not answer ({describe_failure(error)})",
                    status=502,
                    error_type="provider_unreachable",
                ) from error
            self._count(operation, response.status_code)
            record(response)
            return response

    def _count(self, operation: str, status: int) -> None:
        self._metrics.provider_calls.labels(operation, str(status)).inc()


def open_http(base_url: str, api_key: str) -> httpx.AsyncClient:
    """The connection pool for the provider. ``base_url`` comes only from the settings: no request parameter or body
    names an address that the service calls. Redirects are not followed, since they would carry our key elsewhere.

    Raises ConfigurationError for authorities (SSL_CERT_FILE) that cannot be loaded."""
    try:
        return httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(60.0, connect=5.0, pool=5.0),
            follow_redirects=False,
        )
    except OSError as error:
        raise ConfigurationError(
            f"SSL_CERT_FILE cannot be used ({error.strerror}): name a readable PEM file with the certificates of all "
            "authorities that are needed, or unset it"
        ) from error


def _retry_after(error: Exception) -> bool | float:
    """For stamina: whether to retry, or the seconds to wait before that."""
    if not isinstance(error, ProviderError):
        return False
    if error.status == 429:
        seconds = float(error.headers["retry-after"])
        return seconds if seconds <= LONGEST_WAIT_SECONDS else False
    return error.status >= 500 and error.type not in _NON_RETRYABLE


def _retry_at_once(error: Exception) -> bool | float:
    """For stamina, with a pacer: retry at once, since the pacer makes all replicas wait as long as needed."""
    if not isinstance(error, ProviderError) or error.type in (*_NON_RETRYABLE, "provider_paused"):
        return False
    return 0.0 if error.status == 429 or error.status >= 500 else False


def _explain_no_answer(error: Exception, body: FencedBody) -> ProviderError:
    """The error to raise after sending failed with ``error``. It says "nothing was sent" only where no byte of the body
    can have been written."""
    if isinstance(error, FencedError) and not body.has_begun:
        return ProviderError(
            "The service was paused for too long before sending: nothing was sent",
            status=503,
            error_type="unavailable",
            headers={"retry-after": "1"},
        )
    if isinstance(error, FencedError):
        return _lost_answer("the service was paused while sending, and stopped")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)):
        return ProviderError(
            f"The provider could not be reached ({describe_failure(error)}): nothing was sent",
            status=502,
            error_type="provider_unreachable",
        )
    return _lost_answer(type(error).__name__)


def _lost_answer(why: str) -> ProviderError:
    return ProviderError(
        f"The provider's answer to the upload is unknown ({why}): it may have taken the batch and may be calling. "
        "It is never sent again automatically; look for it in the provider's dashboard first",
        status=504,
        error_type="upload_unknown",
        is_sent_unknown=True,
    )


def _refusal(response: httpx.Response) -> ProviderError:
    problem = read_problem(response.content)
    status = response.status_code
    message = problem.message[:500] or f"no message, status {status}"
    headers = {}
    if status == 429:
        headers["retry-after"] = str(read_wait(response))
    if status in {401, 403}:
        # A 401 would wrongly blame our caller's key.
        return ProviderError(
            f"The provider refused our key, check FORMANT_API_KEY: {message}",
            status=502,
            error_type="authentication_error",
        )
    if response.is_redirect:  # not followed, nor passed on to our caller
        return ProviderError(
            f"The provider answered with a redirect ({status}), which is not followed: check FORMANT_BASE_URL",
            status=502,
            error_type="provider_redirected",
        )
    return ProviderError(
        f"The provider answered: {message}",
        status=status if status < 500 else 502,
        error_type=problem.type or ("internal_error" if status >= 500 else "invalid_request"),
        headers=headers,
    )


def read_wait(response: httpx.Response) -> int:
    """Seconds to wait after a 429, at least 1: ``Retry-After``, else until ``X-RateLimit-Reset``."""
    seconds = read_retry_after(response.headers)
    if seconds is None:
        seconds = read_reset(response, datetime.now(UTC))
    return max(1, ceil(seconds or 0.0))


def read_reset(response: httpx.Response, now: datetime) -> float | None:
    """Seconds until ``X-RateLimit-Reset``. Where the provider's clock is off, its own ``Date`` says by how much."""
    try:
        reset = msgspec.convert(response.headers.get("x-ratelimit-reset"), datetime)
    except msgspec.ValidationError:
        return None
    if reset.tzinfo is None:
        reset = reset.replace(tzinfo=UTC)
    date = read_date(response.headers) or now
    skew = (date - now).total_seconds()
    return (reset - now).total_seconds() - (skew if abs(skew) > GREATEST_SKEW_SECONDS else 0.0)
