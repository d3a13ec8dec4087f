"""The key ring: every live key in memory, so that checking one never touches the database, known or not.

It is read anew every two seconds: a key that was revoked is refused everywhere within that, and a new one is let in. A
flood of wrong keys costs a digest each. While the database is away the last reading holds for a while; then nobody can
say whether a key was revoked, and requests with stored keys are put off, not refused.
"""

import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from service.access.keys import digest_key
from service.background import every
from service.store.database import Database
from service.telemetry.context import SETTING, Actor
from service.web.scopes import SCOPES

logger = structlog.get_logger()

REFRESH_SECONDS = 2.0
TRUSTED_SECONDS = 30.0
NOTED_SECONDS = 60.0


class KnownKey(NamedTuple):
    """Whose key it is, and what it is for."""

    actor: Actor
    scopes: tuple[str, ...]


class _Stored(NamedTuple):
    digest: bytes
    known: KnownKey
    expires_at: datetime | None


class KeyRing:
    """Finds keys. ``api_key`` is the one of the settings; it has every scope and no expiry. "" for none."""

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
        self._used: dict[int, datetime] = {}
        self._noted: dict[int, float] = {}
        self._clock = clock
        self._now = now

    @property
    def is_empty(self) -> bool:
        """Whether there is no key at all, as far as is known."""
        return self._setting is None and not self._stored

    @property
    def is_stale(self) -> bool:
        """Whether the stored keys were last read too long ago to be relied on."""
        return self._clock() - self._read_at > TRUSTED_SECONDS

    def find(self, key: str) -> KnownKey | None:
        """Whose key this is; None when it is unknown, revoked or expired, which the caller is not told apart.

        Digests are compared, never keys: what the time of a look-up tells is about a digest, which nobody can choose.
        """
        digest = digest_key(key)
        if self._setting is not None and hmac.compare_digest(digest, self._setting):
            return KnownKey(SETTING, SCOPES)
        stored = self._stored.get(digest)
        if stored is None or not hmac.compare_digest(digest, stored.digest):
            return None
        now = self._now()
        if stored.expires_at is not None and stored.expires_at <= now:
            return None
        assert stored.known.actor.key_id is not None
        self._used[stored.known.actor.key_id] = now
        return stored.known

    async def run(self) -> None:
        """Reads the keys and notes their uses until it is cancelled."""

        async def step() -> None:
            await self.refresh()
            await self.note_uses()

        await every(REFRESH_SECONDS, step, "keys_not_read", is_due_at_once=False)

    async def refresh(self) -> None:
        """Reads all live keys."""
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
        """Writes down when keys were last used: in one statement for all, at most once a minute for each."""
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
