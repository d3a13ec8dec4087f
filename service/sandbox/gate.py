"""What every request to the emulated API passes first: rate limit, key, and the API's own faults.

A plain ASGI wrapper, so that the limit's headers are on every answer, errors included. ``/sandbox`` is not the
provider's and passes untouched.
"""

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.sandbox.allowance import Allowance
from service.sandbox.dice import dice
from service.sandbox.errors import ProviderError
from service.sandbox.faults import Faults
from service.sandbox.journal import Journal
from service.sandbox.options import SandboxOptions


class Gate:
    """Lets requests with a known key and something left of its allowance through to ``app``."""

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
        self._allowances = {
            key: Allowance(options.rate_limit, options.rate_window_real_seconds, real_time)
            for key in (*options.api_keys, None)  # None: all who come without a known key share one
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path == "/sandbox" or path.startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        key = self._find_key(Headers(scope=scope).get("authorization", ""))
        allowance = self._allowances[key]
        app = self._app
        try:
            self._check(path, key, allowance)
        except ProviderError as error:
            app = error.to_response()
        await app(scope, receive, _with_headers(send, allowance.headers()))

    def _find_key(self, authorization: str) -> str | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        for key in self._allowances:
            if key is not None and hmac.compare_digest(key.encode(), token.strip().encode()):
                return key
        return None

    def _check(self, path: str, key: str | None, allowance: Allowance) -> None:
        has_allowance = allowance.take()
        if not path.startswith("/v1/"):
            return  # there is nothing here: the router answers 404
        if key is None:
            raise ProviderError(401, "Missing or invalid API key. Send it as: Authorization: Bearer KEY")
        self._journal.api["within_limit" if has_allowance else "over_limit"] += 1
        if not has_allowance:
            raise ProviderError(429, "Rate limit exceeded.", headers={"Retry-After": allowance.retry_after()})
        self._requests += 1
        chance = dice(self._seed, "api", self._requests)
        if chance.random() < self._faults.api_500:
            raise ProviderError(500, "Internal error (a fault of the sandbox: api_500).")
        if chance.random() < self._faults.api_429:
            message = "Rate limit exceeded (a fault of the sandbox: api_429)."
            raise ProviderError(429, message, headers={"Retry-After": "1"})


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
