"""Traces, for who asks for them: OpenTelemetry spans of requests, commits, provider calls and what runs behind.

Off, nothing of OpenTelemetry is imported, and ``span`` costs a look at a variable. On, spans go to a collector by
OTLP over HTTP; where it is and what share is kept is told by OpenTelemetry's own variables (``OTEL_…``), which its SDK
reads itself. As with the log, there is one for the process, and only listed attributes get out: ids of ours, numbers
and static words. Nothing is told to the provider: calls to it carry no ``traceparent``.
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
"""How long the end of the service waits for a collector that does not take the last spans."""
REMEDY = (
    "OUTCOMES_TRACES is 1, and OpenTelemetry is not installed: pip install 'formant-outcomes[otel]', "
    "or set OUTCOMES_TRACES=0"
)

Kind: TypeAlias = Literal["internal", "server", "client"]


class Span:
    """Something that takes time, while it does."""

    def __init__(self, span: "trace.Span | None") -> None:
        self._span = span

    def note(self, **attributes: str | int | None) -> None:
        """Tells something of it; what is not on the list is dropped."""
        if self._span is not None:
            self._span.set_attributes(_select(attributes))

    def name(self, name: str) -> None:
        """Names it once it is known what it is: a static word, or a method and the template of a route."""
        if self._span is not None:
            self._span.update_name(name)

    def fail(self, error: str) -> None:
        """Marks it as failed, by a static word: an exception's message may quote what it choked on."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))


_NOTHING = nullcontext(Span(None))
_tracer: "trace.Tracer | None" = None


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


@asynccontextmanager
async def run_traces(*, asked: bool) -> AsyncIterator[None]:
    """Spans are sent for as long as the block lasts, where they are asked for; the last ones at its end.

    Raises ConfigurationError, with the remedy, when OpenTelemetry is not installed.
    """
    global _tracer  # noqa: PLW0603  # one for the process, as the log is
    if not asked:
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
        closing = threading.Thread(target=provider.shutdown, daemon=True)  # a dead collector must not hold up the end
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_SECONDS)


def span(name: str, *, kind: Kind = "internal", **attributes: str | int | None) -> AbstractContextManager[Span]:
    """A span for as long as the block lasts, below the one around it. An exception marks it as failed."""
    if _tracer is None:
        return _NOTHING
    return _begin(name, kind, attributes, None)


def request_span(headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Span]:
    """The span of a request, below the caller's where ``traceparent`` names one."""
    if _tracer is None:
        return _NOTHING
    return _begin("request", "server", {"request_id": current_request_id()}, _read_parent(headers))


def trace_webhook(headers: Iterable[tuple[bytes, bytes]], began: float, target: str) -> None:
    """A span for a webhook that has been answered; ``began`` by ``time.perf_counter()``. Only one that was stored gets
    one: what nobody has signed must not cost that much."""
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
        record_exception=False,  # it would tell the message and the stack
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
    """The caller's span, as a context. ``tracestate`` is left where it is: it may hold whatever a caller wrote."""
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
        """A trace has its request's id where that can be one, so that the log and the traces name the same."""

        def generate_trace_id(self) -> int:
            request_id = current_request_id() or ""
            is_one = len(request_id) == 32 and set(request_id) <= set("0123456789abcdef") and set(request_id) != {"0"}
            return int(request_id, 16) if is_one else super().generate_trace_id()

    named = Resource.create({SERVICE_VERSION: version("formant-outcomes")})
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: "outcomes"}))
    provider = TracerProvider(resource=named, id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
