"""ASGI middleware around everything but webhooks: request ids, the request log, metrics and spans, and safe headers."""

import time

import structlog
from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.context import HEADER, SERVICE, choose_request_id, current_actor, set_actor, set_request_id
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import fail, note, request_span

logger = structlog.get_logger()

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""They come every few seconds and are not logged; a failure behind them is logged where it is found."""
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_SAFE_HEADERS = (
    NO_SNIFFING,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


class Requests:
    """An ASGI application around the routes. It adds the request's id as ``X-Request-Id``, and headers that keep
    browsers from guessing content types and anyone from storing personal data, unless the answer sets them itself."""

    def __init__(self, routes: ASGIApp, metrics: Metrics) -> None:
        self._routes = routes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request_id = choose_request_id(scope["headers"])
        # The next request of a connection may start in the context of the one before.
        set_request_id(request_id)
        set_actor(SERVICE)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (HEADER, request_id.encode())]
                given = {name for name, _ in headers}
                headers += [header for header in _SAFE_HEADERS if header[0] not in given]
                message = {**message, "headers": headers}
            await send(message)

        with request_span(scope["headers"]) as span:
            try:
                await self._routes(scope, receive, send_with_headers)
            finally:
                self._record(scope, status, time.perf_counter() - began, span)

    def _record(self, scope: Scope, status: int, seconds: float, span: Span) -> None:
        """Logs and counts the route's template, never the path, which may hold a phone number."""
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.http_requests.labels(method, route, str(status)).inc()
        self._metrics.http_request_seconds.labels(route).observe(seconds)
        actor = current_actor()
        span.update_name(f"{method} {route}")
        note(span, method=method, route=route, status=status, key_id=actor.key_id)
        if status >= 500:
            fail(span, "answered with an error")
        if route in PROBES:
            return
        by = {} if actor is SERVICE else {"actor": actor.name, "key_id": actor.key_id}
        logger.info("request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 1), **by)
