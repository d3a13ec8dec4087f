"""Who may call: bearer keys with scopes, looked up in memory."""

from starlette.requests import Request

from service.access.keyring import KeyRing
from service.errors import AuthenticationError, PermissionDeniedError, UnavailableError
from service.telemetry.context import set_actor
from service.web.scopes import Scope, allows

MAX_KEY_CHARACTERS = 500


class Authenticator:
    """Checks the bearer key of a request. Without any key, configured or stored, every request is refused."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def require(self, request: Request, scope: Scope) -> None:
        """Accepts a request with a known key of this scope, and sets the key's actor as the current one.

        Raises AuthenticationError without a known key, with the same message for unknown, revoked and expired keys;
        PermissionDeniedError, naming the scope, when the key lacks it; UnavailableError when stored keys cannot be
        checked, because the database has been unavailable for too long.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        is_given = scheme.lower() == "bearer" and 0 < len(key) <= MAX_KEY_CHARACTERS
        known = self._keys.find(key) if is_given else None
        if is_given and self._keys.is_stale and (known is None or known.actor.key_id is not None):
            raise UnavailableError(
                "The database does not answer, so only the key in OUTCOMES_API_KEY can be checked", retry_after=5
            )
        if known is None:
            raise AuthenticationError(self._explain(), headers={"www-authenticate": "Bearer"})
        if not allows(known.scopes, scope):
            raise PermissionDeniedError(
                f"This needs a key with the scope {scope!r}; yours has {', '.join(known.scopes)}. "
                f"To make one: outcomes keys create NAME --scope {scope}"
            )
        set_actor(known.actor)

    def _explain(self) -> str:
        if self._keys.is_empty:
            return (
                "There is no API key yet: set OUTCOMES_API_KEY or run `outcomes keys create`, and send the key as "
                "`Authorization: Bearer KEY`"
            )
        return "Send a known API key as `Authorization: Bearer KEY`"
