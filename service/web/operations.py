"""Operations: what each route is, told once: its method, path, handler and the scope that a key needs for it.

A group of handlers lists its operations; ``to_route`` puts the check of the key in front of each, so that none can
forget it.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.access.scopes import Scope
from service.web.auth import Authenticator

Handler = Callable[[Request], Awaitable[Response]]


class Operation(NamedTuple):
    """One method of one path. ``scope`` None: open to everyone."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None


def to_route(operation: Operation, authenticator: Authenticator) -> Route:
    """The route of an operation: the key is checked before anything else is looked at."""
    scope = operation.scope
    if scope is None:
        return Route(operation.path, operation.handler, methods=[operation.method])
    needed: Scope = scope

    @wraps(operation.handler)
    async def handle(request: Request) -> Response:
        await authenticator.require(request, needed)
        return await operation.handler(request)

    return Route(operation.path, handle, methods=[operation.method])
