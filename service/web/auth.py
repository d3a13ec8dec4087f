"""Who may call: bearer keys with scopes, compared in constant time."""

import hashlib
import hmac
from typing import Literal, TypeAlias

from starlette.requests import Request

from service.errors import AuthenticationError

Scope: TypeAlias = Literal["read", "upload", "feed", "admin"]


class Authenticator:
    """Checks the bearer key of a request. Without a key configured nothing is let in."""

    def __init__(self, api_key: str) -> None:
        self._digest = hashlib.sha256(api_key.encode()).digest() if api_key else None

    async def require(self, request: Request, scope: Scope) -> None:
        """Raises AuthenticationError, with what to do, unless the request carries a known key. The one key of the
        settings has every scope."""
        if self._digest is None:
            raise AuthenticationError("No API key is configured: set OUTCOMES_API_KEY, and send it as a bearer token")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._digest):
            raise AuthenticationError(
                "Send a known API key as `Authorization: Bearer KEY`", headers={"www-authenticate": "Bearer"}
            )
