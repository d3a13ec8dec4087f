"""The emulated provider's HTTP interface as one ASGI application; every error has the provider's shape."""

import hmac
import math
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.sandbox.calls import seeded_random
from service.sandbox.clock import format_time
from service.sandbox.faults import Faults
from service.sandbox.http import ProviderError
from service.sandbox.options import SandboxOptions
from service.sandbox.records import Journal


def build_app(routes: Sequence[Route]) -> ASGIApp:
    """The routes, with errors in the provider's shape."""
    errors = (ProviderError, HTTPException, ClientDisconnect, Exception)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(errors, _answer_error))
    app.router.redirect_slashes = False
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response()  # the client is gone
    if isinstance(error, HTTPException):
        messages = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not allowed here."}
        message = messages.get(error.status_code, error.detail)
        error = ProviderError(error.status_code, message, headers=error.headers)
    if not isinstance(error, ProviderError):
        error = ProviderError(500, "The sandbox has a bug; see its log.")
    return error.to_response()


class RateLimit:
    """One key's requests in the current window. A window begins with the first request after the last one's end."""

    def __init__(self, limit: int, window_seconds: float, real_time: Callable[[], float]) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._real_time = real_time
        self._remaining = limit
        self._ends_at = 0.0

    def take(self) -> bool:
        """Counts one request; False when none is left."""
        now = self._real_time()
        if now >= self._ends_at:
            self._remaining = self._limit
            self._ends_at = now + self._window_seconds
        if not self._remaining:
            return False
        self._remaining -= 1
        return True

    def headers(self) -> dict[str, str]:
        """``X-RateLimit-*`` after the last request taken."""
        return {
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Remaining": str(self._remaining),
            "X-RateLimit-Reset": format_time(self._ends_at),
        }

    def retry_after(self) -> str:
        """Whole seconds until the window ends, at least 1."""
        return str(max(1, math.ceil(self._ends_at - self._real_time())))


class Gate:
    """Checks rate limit, key and the API's own faults before a request reaches ``app``.

    It wraps the application, so that the limit's headers are on every answer, errors included. ``/sandbox`` does not
    belong to the provider and passes unchecked.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: SandboxOptions,
        seed: int,
        faults: Faults,
        journal: Journal,
        real_time: Callable[[], float],
    ) -> None:
        self._app = app
        self._seed = seed
        self._faults = faults
        self._journal = journal
        self._requests = 0
        self._limits = {
            key: RateLimit(options.rate_limit, options.rate_window_real_seconds, real_time)
            for key in (*options.api_keys, None)  # None: all requests without a known key share one
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path == "/sandbox" or path.startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        key = self._find_key(Headers(scope=scope).get("authorization", ""))
        limit = self._limits[key]
        app = self._app
        try:
            self._check(path, key, limit)
        except ProviderError as error:
            app = error.to_response()
        headers = limit.headers()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await app(scope, receive, send_with_headers)

    def _find_key(self, authorization: str) -> str | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        for key in self._limits:
            if key is not None and hmac.compare_digest(key.encode(), token.strip().encode()):
                return key
        return None

    def _check(self, path: str, key: str | None, limit: RateLimit) -> None:
        is_within_limit = limit.take()
        if not path.startswith("/v1/"):
            return  # the router answers 404
        if key is None:
            raise ProviderError(401, "Missing or invalid API key. Send it as: Authorization: Bearer KEY")
        self._journal.api["within_limit" if is_within_limit else "over_limit"] += 1
        if not is_within_limit:
            raise ProviderError(429, "Rate limit exceeded.", headers={"Retry-After": limit.retry_after()})
        self._requests += 1
        chance = seeded_random(self._seed, "api", self._requests)
        if chance.random() < self._faults.api_500:
            raise ProviderError(500, "Internal error (a fault of the sandbox: api_500).")
        if chance.random() < self._faults.api_429:
            message = "Rate limit exceeded (a fault of the sandbox: api_429)."
            raise ProviderError(429, message, headers={"Retry-After": "1"})
