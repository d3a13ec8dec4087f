"""The emulated provider's HTTP interface as one ASGI application; every error has the provider's shape."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.sandbox.errors import ProviderError
from service.sandbox.faults import Faults
from service.sandbox.gate import Gate
from service.sandbox.journal import Journal
from service.sandbox.options import SandboxOptions


def build_app(
    routes: Sequence[Route],
    options: SandboxOptions,
    seed: int,
    faults: Faults,
    journal: Journal,
    real_time: Callable[[], float],
) -> ASGIApp:
    """The routes behind the gate."""
    app = Starlette(
        routes=routes,
        exception_handlers={
            ProviderError: _answer_provider_error,
            HTTPException: _answer_http_exception,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_exception,
        },
    )
    app.router.redirect_slashes = False
    return Gate(app, options, seed, faults, journal, real_time)


async def _answer_provider_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProviderError):
        raise error
    return error.to_response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    messages = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not allowed here."}
    message = messages.get(error.status_code, error.detail)
    return ProviderError(error.status_code, message, headers=error.headers).to_response()


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response()  # the client hung up before its request was complete


async def _answer_exception(request: Request, error: Exception) -> Response:
    return ProviderError(500, "The sandbox has a bug; see its log.").to_response()
