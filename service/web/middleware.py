"""What is told of every request but webhooks: its id in the answer, a line in the log, and what the metrics count.

The line names the route's template and never the path, which may hold a phone number or whatever a caller wrote.
"""

import time

import structlog
from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.context import HEADER, SERVICE, choose_request_id, current_actor, set_actor, set_request_id
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import fail, note, request_span

logger = structlog.get_logger()

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
UNTOLD_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probes and scrapes come every few seconds and say nothing; what is wrong with them is told where it is found."""


class Requests:
    """An ASGI application around the routes."""

    def __init__(self, routes: ASGIApp, metrics: Metrics) -> None:
        self._routes = routes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the routes do, with the request's id as ``X-Request-Id``."""
        began = time.perf_counter()
        request_id = choose_request_id(scope["headers"])
        # A connection's next request may begin in the context that the one before it left behind.
        set_request_id(request_id)
        set_actor(SERVICE)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (HEADER, request_id.encode())]}
            await send(message)

        with request_span(scope["headers"]) as span:
            try:
                await self._routes(scope, receive, send_with_id)
            finally:
                self._tell(scope, status, time.perf_counter() - began, span)

    def _tell(self, scope: Scope, status: int, seconds: float, span: Span) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.http_requests.labels(method, route, str(status)).inc()
        self._metrics.http_request_seconds.labels(route).observe(seconds)
        actor = current_actor()
        span.update_name(f"{method} {route}")
        note(span, method=method, route=route, status=status, key_id=actor.key_id)
        if status >= 500:
            fail(span, "answered with an error")
        if route in UNTOLD_ROUTES:
            return
        by = {} if actor is SERVICE else {"actor": actor.name, "key_id": actor.key_id}
        logger.info("request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 1), **by)
