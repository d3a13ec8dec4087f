"""The webhook receiver: a plain ASGI application that handles the hot path before any routing.

204: committed (new, duplicate or quarantined). 401: not signed with a live secret, nothing stored. 404: unknown target.
413: too large, refused before all of it is read. 503 with Retry-After: not stored, send it again. Any other failure is
also a 503, since the provider never resends an event after a 4xx.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.types import Message, Receive, Scope, Send

from service.errors import (
    ApiError,
    AuthenticationError,
    BodyTooLargeError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from service.formant.events import TEXT_LIMIT, EventDecoder, Webhook
from service.formant.signature import SIGNATURE_HEADER
from service.formant.targets import DEFAULT_TARGET, Target
from service.telemetry.context import HEADER as REQUEST_ID
from service.telemetry.context import choose_request_id
from service.telemetry.logs import LineLimit
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import is_tracing, trace_webhook
from service.web.middleware import NO_SNIFFING
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Header, PathText
from service.web.problems import render_error
from service.webhooks.backlog import Backlog
from service.webhooks.committer import Committer
from service.webhooks.encodings import ContentDecoder
from service.webhooks.quarantine import note_encoding
from service.webhooks.signatures import SignatureCheck

PATH = "/webhooks/formant"
READ_SECONDS = 8.0  # a slower sender is cut off; the provider itself gives up after 10 s
RETRY_AFTER_SECONDS = 5

TARGET = PathText("target", "The name of a target in `OUTCOMES_TARGETS_FILE`, with its own secrets")
SIGNATURE = Header(
    SIGNATURE_HEADER, "`sha256=` and the hex HMAC-SHA256 of the raw body under the target's secret", is_required=True
)
EVENT_ID = Header("X-FormantAI-Event-Id", "The event's id; a hint, used for bodies that name none")

logger = structlog.get_logger()

_SIGNATURE = SIGNATURE.name.lower().encode()
_EVENT_ID = EVENT_ID.name.lower().encode()
_LENGTH = b"content-length"
_ENCODING = b"content-encoding"
_SEGMENTS = PATH.strip("/").split("/")
_STORED: tuple[Message, Message] = (
    {"type": "http.response.start", "status": 204, "headers": []},
    {"type": "http.response.body", "body": b""},
)


def read_target(path: str) -> str | None:
    """The target named by a path; None for any other path. Doubled and trailing slashes are ignored."""
    if path == PATH:
        return DEFAULT_TARGET
    segments = [segment for segment in path.split("/") if segment]
    if not path.startswith("/") or segments[:2] != _SEGMENTS:
        return None
    return "/".join(segments[2:]) or DEFAULT_TARGET


class _DisconnectedError(Exception):
    """The sender disconnected before its body was read, so no answer is sent."""


class Receiver:
    """Reads, verifies, decodes and submits one webhook, and answers once its group has committed."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        decoder: EventDecoder,
        committer: Committer,
        backlog: Backlog,
        metrics: Metrics,
        *,
        max_body_bytes: int,
    ) -> None:
        self._targets = targets
        self._decoder = decoder
        self._committer = committer
        self._backlog = backlog
        self._max_body_bytes = max_body_bytes
        self._lines = LineLimit("webhooks_refused")
        self._webhooks = metrics.webhooks.counts
        self._observe = metrics.webhook_seconds.observe
        self._is_traced = is_tracing()
        self._signatures = SignatureCheck(metrics.secret_used.counts)
        self._contents = ContentDecoder(max_body_bytes)

    def operations(self) -> list[Operation]:
        """What is documented of it; it is reached without any route."""
        answers = (Answer(None, "Committed: new, seen before, or in quarantine", 204),)
        errors = (AuthenticationError, NotFoundError, BodyTooLargeError, UnavailableError)
        body = Json(Webhook, "One event; a signed body is never refused for its content")
        return [
            Operation(
                "POST", "/webhooks/formant", self.__call__, None, "Webhooks",
                parameters=(SIGNATURE, EVENT_ID),
                bodies=(body,), answers=answers, errors=errors, is_tolerant=True,
            ),
            Operation(
                "POST", "/webhooks/formant/{target}", self.__call__, None, "Webhooks",
                parameters=(TARGET, SIGNATURE, EVENT_ID),
                bodies=(body,), answers=answers, errors=errors, is_tolerant=True,
            ),
        ]  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receives one event from the provider and answers once it is committed. The provider makes at
        most three attempts: it tries again after a 503, or without an answer within 10 seconds, but never after a
        4xx."""
        began = time.perf_counter()
        name = read_target(scope["path"]) or DEFAULT_TARGET
        target = self._targets.get(name)
        try:
            if target is None:
                raise NotFoundError(f"There is no webhook target {name!r}: see OUTCOMES_TARGETS_FILE")
            if scope["method"] != "POST":
                raise MethodNotAllowedError("Webhooks are sent by POST", headers={"allow": "POST"})
            await self._take(target, scope, receive)
        except _DisconnectedError:
            self._note(scope, name, "disconnected")
        except ApiError as error:
            request_id = self._note(scope, name, error.type if error.status != 413 else "too_large", error.status)
            await _answer(send, error, request_id)
            self._observe("refused" if error.status < 500 else "deferred", time.perf_counter() - began)
        except OverloadedError as error:
            request_id = self._note(scope, name, "overloaded", 503)
            answer = UnavailableError(f"{error}: send the event again", retry_after=RETRY_AFTER_SECONDS)
            await _answer(send, answer, request_id)
            self._observe("deferred", time.perf_counter() - began)
        except Exception:
            request_id = self._note(scope, name, "failed", 503, exc_info=True)
            answer = UnavailableError("Not stored: send the event again", retry_after=RETRY_AFTER_SECONDS)
            await _answer(send, answer, request_id)
            self._observe("deferred", time.perf_counter() - began)
        else:
            self._webhooks[name, "stored"] += 1
            await send(_STORED[0])
            await send(_STORED[1])
            self._observe("stored", time.perf_counter() - began)
            if self._is_traced:
                trace_webhook(scope["headers"], began, name)

    async def _take(self, target: Target, scope: Scope, receive: Receive) -> None:
        signature = event_id = length = encoding = b""
        # Reversed, so that the first header of a name wins over any appended later. Signatures are joined, since any of
        # them may be the right one.
        for key, value in reversed(scope["headers"]):
            if key == _SIGNATURE:
                signature = value + b"," + signature if signature else value
            elif key == _EVENT_ID:
                event_id = value
            elif key == _LENGTH:
                length = value
            elif key == _ENCODING:
                encoding = value + b"," + encoding if encoding else value
        if length and int(length) > self._max_body_bytes:
            raise self._too_large()
        self._committer.refuse_if_behind()
        self._backlog.enter()
        held = _Held(self._backlog)
        try:
            body = await self._read(receive, held)
            content: bytes | None = body
            if encoding:
                content = await self._contents.decode(body, encoding)
                body, kept = self._signatures.verify_encoded(target, body, signature, content)
                held.grow(len(body))
            else:
                kept = self._signatures.verify(target, body, signature)
            hint = event_id.decode("latin-1")[:TEXT_LIMIT] if event_id else None
            item = self._decoder.decode_event(body, target.name, datetime.now(UTC), hint, kept)
            if content is None:
                item = note_encoding(item, encoding)
            await self._committer.submit(target.admit(item))
        finally:
            held.leave()

    async def _read(self, receive: Receive, held: "_Held") -> bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        body: bytes = message.get("body", b"")
        held.grow(len(body))
        if not message.get("more_body", False):
            if len(body) > self._max_body_bytes:
                raise self._too_large()
            return body
        chunks = [body]
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._read_rest(receive, chunks, held)
        except TimeoutError as error:
            raise UnavailableError(f"The body did not arrive within {READ_SECONDS:.0f} s", retry_after=1) from error
        return b"".join(chunks)

    async def _read_rest(self, receive: Receive, chunks: list[bytes], held: "_Held") -> None:
        more = True
        while more:
            if held.size_bytes > self._max_body_bytes:
                raise self._too_large()
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            chunk: bytes = message.get("body", b"")
            held.grow(len(chunk))
            chunks.append(chunk)
            more = message.get("more_body", False)
        if held.size_bytes > self._max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body is over {self._max_body_bytes} bytes: see OUTCOMES_MAX_BODY_BYTES")

    def _note(self, scope: Scope, name: str, answer: str, status: int | None = None, **failure: Any) -> str:
        """Counts and logs a webhook that was not stored. Returns the request id, which only such a request needs."""
        # Unknown names come from outside and would create unbounded metric labels.
        target = name if name in self._targets else "unknown"
        self._webhooks[target, answer] += 1
        request_id = choose_request_id(scope["headers"])
        if self._lines.admit(answer):
            level = logging.ERROR if failure else logging.WARNING
            event = "webhook_failed" if failure else "webhook_refused"
            logger.log(level, event, reason=answer, status=status, target=target, request_id=request_id, **failure)
        return request_id


class _Held:
    """The share of the backlog that one request holds."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        self._backlog.grow(size_bytes)
        self.size_bytes += size_bytes

    def leave(self) -> None:
        self._backlog.leave(self.size_bytes)


async def _answer(send: Send, error: ApiError, request_id: str) -> None:
    body = render_error(error.message, error.type)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), NO_SNIFFING]
    headers.append((REQUEST_ID, request_id.encode()))
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.status in {413, 503}:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
