"""Errors as answers: always ``{"error": {"message", "type"}}``, as the provider's own are."""

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import ApiError

logger = structlog.get_logger()

_TYPES = {400: "invalid_request", 401: "authentication_error", 404: "not_found", 405: "invalid_request"}


def render_error(message: str, error_type: str) -> bytes:
    """The body of an error answer."""
    return msgspec.json.encode({"error": {"message": message, "type": error_type}})


def answer_api_error(request: Request, error: Exception) -> Response:
    """The answer to an error that this service raised on purpose."""
    assert isinstance(error, ApiError)
    body = render_error(error.message, error.type)
    return Response(body, error.status, headers=error.headers, media_type="application/json")


def answer_http_exception(request: Request, error: Exception) -> Response:
    """The answer to an unknown path, a wrong method, or a form that cannot be read."""
    assert isinstance(error, HTTPException)
    body = render_error(
        f"{request.method} {request.url.path}: {error.detail}", _TYPES.get(error.status_code, "invalid_request")
    )
    return Response(body, error.status_code, headers=error.headers, media_type="application/json")


def answer_failure(request: Request, error: Exception) -> Response:
    """The answer to a failure of ours: nothing of it is told but that the request may be repeated."""
    logger.error("request_failed", operation=request.scope.get("path"), exc_info=error)
    body = render_error("The service failed to answer; the request may be repeated", "internal_error")
    return Response(body, 500, media_type="application/json")
