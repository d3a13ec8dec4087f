"""Optional traces: OpenTelemetry spans of requests, commits, provider calls and background work.

When off, spans are the API's own, which do nothing, and no SDK is imported. When on, they go to a collector by OTLP
over HTTP; OpenTelemetry's own variables (``OTEL_…``) set its address and the sampling. There is one tracer for the
process, and only listed attributes are sent: our ids, numbers and static words. Calls to the provider carry no
``traceparent``.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.errors import ConfigurationError
from service.telemetry.context import current_request_id, find_traceparent

logger = structlog.get_logger()

ATTRIBUTES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
} | {
    name: f"outcomes.{name}"
    for name in (
        "agent_id", "batch_id", "calls", "ending", "events", "exported", "format", "healed", "key_id", "operation",
        "request_id", "target", "upload_id", "verdict",
    )
}  # fmt: skip
FLUSH_SECONDS = 3.0
"""The longest that a shutdown waits for a collector to accept the last spans."""
REMEDY = (
    "OUTCOMES_TRACES is 1, and OpenTelemetry's SDK is not installed: pip install 'formant-outcomes[otel]', "
    "or set OUTCOMES_TRACES=0"
)

_OFF = NoOpTracer()
_tracer: Tracer = _OFF


def is_tracing() -> bool:
    """Whether spans are sent."""
    return _tracer is not _OFF


@asynccontextmanager
async def run_traces(*, is_enabled: bool) -> AsyncIterator[None]:
    """Sends spans while the block lasts, if ``is_enabled``, and the last ones at its end.

    Raises ConfigurationError, with the remedy, when the SDK is not installed.
    """
    global _tracer  # noqa: PLW0603  # one for the process, like the log
    if not is_enabled:
        yield
        return
    try:
        provider = _open()
    except ImportError as error:
        raise ConfigurationError(REMEDY) from error
    _tracer = provider.get_tracer("outcomes", version("formant-outcomes"))
    logger.info("tracing_enabled")
    try:
        yield
    finally:
        _tracer = _OFF
        closing = threading.Thread(target=provider.shutdown, daemon=True)  # a dead collector must not hang it
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_SECONDS)


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    context: Context | None = None,
    **attributes: str | int | None,
) -> Iterator[Span]:
    """A span while the block lasts, below the one around it. An exception marks it as failed."""
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=_select(attributes),
        record_exception=False,  # it would contain the message and the stack
        set_status_on_exception=False,
    ) as started:
        try:
            yield started
        except BaseException as error:
            fail(started, type(error).__name__)
            raise


def note(span: Span, **attributes: str | int | None) -> None:
    """Adds attributes to a span; those that are not listed are dropped."""
    span.set_attributes(_select(attributes))


def fail(span: Span, error: str) -> None:
    """Marks a span as failed with a static word, because an exception's message may quote its input."""
    span.set_status(StatusCode.ERROR, error)


def request_span(headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Span]:
    """The span of a request, below the caller's if ``traceparent`` names one."""
    parent = _read_parent(headers) if is_tracing() else None
    return span("request", kind=SpanKind.SERVER, context=parent, request_id=current_request_id())


def trace_webhook(headers: Iterable[tuple[bytes, bytes]], began: float, target: str) -> None:
    """A span for an answered webhook; ``began`` is from ``time.perf_counter()``. Only stored webhooks get one, because
    unsigned requests must stay cheap."""
    now = time.time_ns()
    started = _tracer.start_span(
        "webhook",
        context=_read_parent(headers),
        kind=SpanKind.SERVER,
        attributes=_select({"target": target, "status": 204}),
        start_time=now - int((time.perf_counter() - began) * 1e9),
    )
    started.end(now)


def _select(attributes: dict[str, str | int | None]) -> dict[str, str | int]:
    return {ATTRIBUTES[name]: value for name, value in attributes.items() if name in ATTRIBUTES and value is not None}


def _read_parent(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """The caller's span, as a context, without ``tracestate``, which may contain any text."""
    traceparent = find_traceparent(headers)
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {}, Context())


def _open() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Gives a trace its request's id if that is a valid trace id, so that logs and traces share it."""

        def generate_trace_id(self) -> int:
            request_id = current_request_id() or ""
            is_valid = len(request_id) == 32 and set(request_id) <= set("0123456789abcdef") and set(request_id) != {"0"}
            return int(request_id, 16) if is_valid else super().generate_trace_id()

    named = Resource.create({SERVICE_VERSION: version("formant-outcomes")})
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: "outcomes"}))
    provider = TracerProvider(resource=named, id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
