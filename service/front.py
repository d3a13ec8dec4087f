"""Dispatches requests: webhooks directly to the receiver, the rest by routes built from the operations."""

from collections.abc import Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.downloads import DownloadLog
from service.errors import ApiError
from service.telemetry.metrics import Metrics
from service.web.documentation import Documentation
from service.web.middleware import Requests
from service.web.operations import Guard, Operation, to_route
from service.web.problems import (
    UNREACHABLE,
    answer_api_error,
    answer_disconnected,
    answer_failure,
    answer_http_exception,
    answer_unavailable,
)
from service.webhooks.receiver import read_target


class Front:
    """Sends webhooks directly to the receiver and everything else through Starlette: routing would cost the hot path a
    fifth of its time."""

    def __init__(self, receiver: ASGIApp, routes: Starlette, metrics: Metrics) -> None:
        self._receiver = receiver
        self.routes = routes
        self._requests = Requests(routes, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if read_target(scope.get("path", "")) is not None:
            await self._receiver(scope, receive, send)
        else:
            await self._requests(scope, receive, send)


class Handlers(Protocol):
    """A group of handlers that knows its own operations."""

    def operations(self) -> list[Operation]: ...


def build_routes(
    guard: Guard,
    downloads: DownloadLog,
    receiver: Handlers,
    *groups: Handlers,
    pages: Callable[[list[Operation]], list[Route]] = lambda _: [],
) -> Starlette:
    """Routes of everything but the receiver, which is only documented here. ``pages`` makes those of the console."""
    operations = [downloads.watch(operation) for group in groups for operation in group.operations()]
    page_routes = pages(operations)
    documentation = Documentation([*receiver.operations(), *operations])
    operations += documentation.operations()
    routes = Starlette(
        routes=[*(to_route(operation, guard) for operation in operations), *page_routes],
        exception_handlers={
            ApiError: answer_api_error,
            **dict.fromkeys(UNREACHABLE, answer_unavailable),
            HTTPException: answer_http_exception,
            ClientDisconnect: answer_disconnected,
            Exception: answer_failure,
        },
    )
    # The redirect for a trailing slash would trust the request's Host header.
    routes.router.redirect_slashes = False
    routes.state.operations = operations
    return routes
