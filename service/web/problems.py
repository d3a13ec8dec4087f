"""Errors as answers: always ``{"error": {"message", "type"}}``, as the provider's own are."""

from typing import Any

import asyncpg
import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from service.errors import ApiError

logger = structlog.get_logger()

# What the driver raises when the server is gone, shutting down, or has no free connection, and when no host takes
# writes now, as during a failover.
UNREACHABLE = (
    OSError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)

_BEFORE_REPEATING = "A read may be repeated; before you repeat an upload, see GET /v1/uploads for what became of it"
_TYPES = {400: "invalid_request", 401: "authentication_error", 404: "not_found", 405: "invalid_request"}


class Problem(msgspec.Struct):
    """What went wrong, and what to do."""

    message: str
    """A sentence that names the parameter or field, and what it takes."""
    type: str
    """A word for programs, the provider's where it has one."""
    details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """What does not fit into the message, such as the report on a file."""


class Error(msgspec.Struct):
    """The body of every error."""

    error: Problem


def render_error(message: str, error_type: str, details: dict[str, Any] | None = None) -> bytes:
    """The body of an error answer; ``details`` only where there are some."""
    return msgspec.json.encode(Error(Problem(message, error_type, details or msgspec.UNSET)))


def answer_api_error(request: Request, error: Exception) -> Response:
    """The answer to an error that this service raised on purpose."""
    assert isinstance(error, ApiError)
    body = render_error(error.message, error.type, error.details)
    return Response(body, error.status, headers=error.headers, media_type="application/json")


def answer_http_exception(request: Request, error: Exception) -> Response:
    """The answer to an unknown path, a wrong method, or a form that cannot be read."""
    assert isinstance(error, HTTPException)
    hint = "; /docs lists all calls" if error.status_code in {404, 405} else ""
    body = render_error(
        f"{request.method} {request.url.path}: {error.detail}{hint}",
        _TYPES.get(error.status_code, "invalid_request"),
    )
    headers = {"allow": _list_methods(request)} if error.status_code == 405 else error.headers
    return Response(body, error.status_code, headers=headers, media_type="application/json")


def _list_methods(request: Request) -> str:
    """All methods of the path. Each has its own route, and the router's answer names those of one route only."""
    fitting = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in fitting for method in route.methods}))


def answer_disconnected(request: Request, error: Exception) -> Response:
    """The answer to a client that disconnected, or was cut off, before its whole body arrived. It is never sent."""
    return Response(status_code=400)


def answer_unavailable(request: Request, error: Exception) -> Response:
    """The answer while the database cannot be reached."""
    logger.warning("database_unavailable", operation=_name_operation(request), exc_info=error)
    body = render_error(f"The database does not answer. {_BEFORE_REPEATING}", "unavailable")
    return Response(body, 503, headers={"retry-after": "5"}, media_type="application/json")


def answer_failure(request: Request, error: Exception) -> Response:
    """The answer to an internal failure, without its details."""
    logger.error("request_failed", operation=_name_operation(request), exc_info=error)
    body = render_error(f"The service failed to answer. {_BEFORE_REPEATING}", "internal_error")
    # The server closes the connection after a failure: without this, a client might send its next request there.
    return Response(body, 500, headers={"connection": "close"}, media_type="application/json")


def _name_operation(request: Request) -> str | None:
    """The handler's name. Unlike the path, it contains nothing from the caller."""
    return getattr(request.scope.get("endpoint"), "__name__", None)
