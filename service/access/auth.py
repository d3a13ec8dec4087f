"""Authentication by bearer keys: every live key is in memory, so checking a key, known or unknown, never touches the
database.

The keys are reloaded every two seconds: within that time a revoked key is refused everywhere, and a new one is
accepted. A flood of wrong keys costs a digest each. While the database is unavailable the last load stays valid for
``TRUSTED_SECONDS``. After that a key may have been revoked unseen, so requests with stored keys get a 503, not a 401.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from starlette.requests import Request

from service.access.keys import digest_key
from service.background import every
from service.errors import AuthenticationError, PermissionDeniedError, UnavailableError
from service.store.database import Database
from service.telemetry.context import SETTING, Actor, set_actor
from service.web.scopes import SCOPES, Scope, allows, grant

REFRESH_SECONDS = 2.0
TRUSTED_SECONDS = 30.0
REREAD_SECONDS = 1.0
"""Between two readings of the keys for the sake of keys that are not known yet."""
NOTED_SECONDS = 60.0
MAX_KEY_CHARACTERS = 500


class KnownKey(NamedTuple):
    """The actor and the scopes of a key."""

    actor: Actor
    scopes: tuple[str, ...]


class _Stored(NamedTuple):
    digest: bytes
    known: KnownKey
    expires_at: datetime | None


class KeyRing:
    """Finds keys. ``api_key`` is the key in the settings, with every scope and no expiry; "" for none."""

    def __init__(
        self,
        database: Database,
        api_key: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._setting = digest_key(api_key) if api_key else None
        self._stored: dict[bytes, _Stored] = {}
        self._read_at = float("-inf")
        self._reread_at = float("-inf")
        self._rereading = asyncio.Lock()
        self._used: dict[int, datetime] = {}
        self._noted: dict[int, float] = {}
        self._clock = clock
        self._now = now

    @property
    def is_empty(self) -> bool:
        return self._setting is None and not self._stored

    @property
    def is_stale(self) -> bool:
        """Whether the stored keys were last read too long ago to be relied on."""
        return self._clock() - self._read_at > TRUSTED_SECONDS

    def find(self, key: str) -> KnownKey | None:
        """The actor and scopes of a key; None when it is unknown, revoked or expired, without saying which."""
        return self.find_digest(digest_key(key))

    def find_digest(self, digest: bytes, *, is_use: bool = True) -> KnownKey | None:
        """Like ``find``, for the digest of a key. With ``is_use`` the key counts as used now.

        Compares digests, never keys: timing reveals something about a digest only, which an attacker cannot choose.
        """
        if self._setting is not None and hmac.compare_digest(digest, self._setting):
            return KnownKey(SETTING, SCOPES)
        stored = self._stored.get(digest)
        if stored is None or not hmac.compare_digest(digest, stored.digest):
            return None
        now = self._now()
        if stored.expires_at is not None and stored.expires_at <= now:
            return None
        assert stored.known.actor.key_id is not None
        if is_use:
            self._used[stored.known.actor.key_id] = now
        return stored.known

    def verify(self, digest: bytes, *, is_use: bool = True) -> KnownKey | None:
        """Like ``find_digest``; raises UnavailableError when the answer depends on stored keys, and they cannot be
        checked because the database has been unavailable for too long."""
        known = self.find_digest(digest, is_use=is_use)
        if self.is_stale and (known is None or known.actor.key_id is not None):
            raise UnavailableError(
                "The database does not answer, so only the key in OUTCOMES_API_KEY can be checked", retry_after=5
            )
        return known

    async def verify_new(self, digest: bytes) -> KnownKey | None:
        """Like ``verify``, also for a key that was made a moment ago: for an unknown one the keys are read again, for
        all who wait at once, and at most once in ``REREAD_SECONDS``."""
        known = self.verify(digest)
        if known is not None:
            return known
        asked = self._clock()
        async with self._rereading:
            if self._read_at < asked:
                await asyncio.sleep(max(0.0, self._reread_at + REREAD_SECONDS - asked))
                self._reread_at = self._clock()
                await self.refresh()
        return self.verify(digest)

    async def run(self) -> None:

        async def step() -> None:
            await self.refresh()
            await self.note_uses()

        await every(REFRESH_SECONDS, step, "keys_not_read", is_due_at_once=False)

    async def refresh(self) -> None:
        began = self._clock()
        rows = [row async for row in self._database.queries.list_live_keys(self._database.pool)]
        self._stored = {
            row["digest"]: _Stored(
                row["digest"],
                KnownKey(Actor(f"key: {row['name']}", row["key_id"]), tuple(row["scopes"])),
                row["expires_at"],
            )
            for row in rows
        }
        self._read_at = began
        live = {row["key_id"] for row in rows}
        self._noted = {key_id: at for key_id, at in self._noted.items() if key_id in live}

    async def note_uses(self) -> None:
        """Records when keys were last used: in one statement for all, at most once a minute for each."""
        now = self._clock()
        due = {
            key_id: at
            for key_id, at in self._used.items()
            if now - self._noted.get(key_id, float("-inf")) >= NOTED_SECONDS
        }
        if not due:
            return
        await self._database.queries.note_key_uses(self._database.pool, key_ids=list(due), used_at=list(due.values()))
        for key_id, at in due.items():
            self._noted[key_id] = now
            if self._used.get(key_id) == at:
                del self._used[key_id]


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
        known = self._keys.verify(digest_key(key)) if is_given else None
        if known is None:
            raise AuthenticationError(self._describe_refusal(), headers={"www-authenticate": "Bearer"})
        if not allows(known.scopes, scope):
            raise PermissionDeniedError(
                f"This needs a key with the scope {scope!r}; yours has {', '.join(known.scopes)}. "
                f"To make one: outcomes keys create NAME --scope {scope}"
            )
        grant(request, known.scopes)
        set_actor(known.actor)

    def _describe_refusal(self) -> str:
        if self._keys.is_empty:
            return (
                "There is no API key yet: set OUTCOMES_API_KEY or run `outcomes keys create`, and send the key as "
                "`Authorization: Bearer KEY`"
            )
        return "Send a known API key as `Authorization: Bearer KEY`"
