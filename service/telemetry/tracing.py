"""Optional traces: OpenTelemetry spans of requests, commits, provider calls and background work.

When traces are off, OpenTelemetry is not imported, and ``span`` only checks a variable. When they are on, spans go to a
collector by OTLP over HTTP. OpenTelemetry's own variables (``OTEL_…``), which its SDK reads itself, set the address and
the sampling. As with logs, there is one tracer per process, and only listed attributes are sent: our own ids, numbers
and static words. Calls to the provider carry no ``traceparent``.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog

from service.errors import ConfigurationError
from service.telemetry.context import current_request_id, find_traceparent

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context

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
"""How long a shutdown waits for a collector that does not accept the last spans."""
REMEDY = (
    "OUTCOMES_TRACES is 1, but OpenTelemetry is not installed: pip install 'formant-outcomes[otel]', "
    "or set OUTCOMES_TRACES=0"
)

Kind: TypeAlias = Literal["internal", "server", "client"]


class Span:
    """A span in progress; does nothing when traces are off."""

    def __init__(self, span: "trace.Span | None") -> None:
        self._span = span

    def note(self, **attributes: str | int | None) -> None:
        """Adds attributes; drops those that are not in ``ATTRIBUTES``."""
        if self._span is not None:
            self._span.set_attributes(_select(attributes))

    def name(self, name: str) -> None:
        """Sets the name once it is known: a static word, or a method and the template of a route."""
        if self._span is not None:
            self._span.update_name(name)

    def fail(self, error: str) -> None:
        """Marks the span as failed, with a static word: an exception's message may quote its input."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))


_NOTHING = nullcontext(Span(None))
_tracer: "trace.Tracer | None" = None


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


@asynccontextmanager
async def run_traces(*, is_enabled: bool) -> AsyncIterator[None]:
    """Sends spans for as long as the block lasts, if ``is_enabled``; the last ones at its end.

    Raises ConfigurationError, with the remedy, when OpenTelemetry is not installed.
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
    logger.info("traces_on")
    try:
        yield
    finally:
        _tracer = None
        closing = threading.Thread(target=provider.shutdown, daemon=True)  # a dead collector must not delay shutdown
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_SECONDS)


def span(name: str, *, kind: Kind = "internal", **attributes: str | int | None) -> AbstractContextManager[Span]:
    """A span for as long as the block lasts, a child of the current one. An exception marks it as failed."""
    if _tracer is None:
        return _NOTHING
    return _begin(name, kind, attributes, None)


def request_span(headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Span]:
    """The span of a request, a child of the caller's if ``traceparent`` names one."""
    if _tracer is None:
        return _NOTHING
    return _begin("request", "server", {"request_id": current_request_id()}, _read_parent(headers))


def trace_webhook(headers: Iterable[tuple[bytes, bytes]], began: float, target: str) -> None:
    """Records the span of a stored webhook after its answer; ``began`` is a ``time.perf_counter()``. Only stored
    webhooks get a span: an unsigned request must not cost that much."""
    if _tracer is None:
        return
    now = time.time_ns()
    started = _tracer.start_span(
        "webhook",
        context=_read_parent(headers),
        kind=_find_kind("server"),
        attributes=_select({"target": target, "status": 204}),
        start_time=now - int((time.perf_counter() - began) * 1e9),
    )
    started.end(now)


@contextmanager
def _begin(name: str, kind: Kind, attributes: dict[str, str | int | None], context: "Context | None") -> Iterator[Span]:
    assert _tracer is not None
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=_find_kind(kind),
        attributes=_select(attributes),
        record_exception=False,  # it would contain the message and the stack
        set_status_on_exception=False,
    ) as started:
        begun = Span(started)
        try:
            yield begun
        except BaseException as error:
            begun.fail(type(error).__name__)
            raise


def _select(attributes: dict[str, str | int | None]) -> dict[str, str | int]:
    return {ATTRIBUTES[name]: value for name, value in attributes.items() if name in ATTRIBUTES and value is not None}


def _find_kind(kind: Kind) -> "trace.SpanKind":
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


def _read_parent(headers: Iterable[tuple[bytes, bytes]]) -> "Context":
    """The caller's span, as a context. ``tracestate`` is ignored: it may hold anything."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

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
