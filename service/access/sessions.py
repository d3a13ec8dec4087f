"""Sessions of the console: a person signed in by an API key or by OpenID Connect, on every replica.

The browser holds a random token, the database its SHA-256. A session of a key has the key's scopes and ends with the
key. A session of a person has the scopes that the person's groups gave at sign-in, until it expires.

Sessions in use are held in memory and read again every two seconds, all in one statement, so many viewers who poll
cost the database little. A session that was closed on another replica ends within that time.
"""

import asyncio
import base64
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from service.access.audit import record_audit
from service.access.auth import KeyRing
from service.access.keys import digest_key
from service.access.session_ends import End, find_end
from service.background import every
from service.errors import AuthenticationError, NotFoundError
from service.store.database import Database
from service.telemetry.context import Actor
from service.wording import describe_actor

TOKEN_BYTES = 32
MAX_TOKEN_CHARACTERS = 100
REFRESH_SECONDS = 2.0
TRUSTED_SECONDS = 5.0
"""While the database does not answer, a session that was read this long ago is no longer trusted."""
KEPT_SECONDS = 60.0
"""A session that was not used for so long leaves the memory."""
MAX_KEPT = 10_000
LOOKUPS = 2
"""Connections that look up unknown tokens at a time: a flood of them must leave the pool to others."""
NOTED = timedelta(minutes=1)
FORGET_SECONDS = 60.0
FORGOTTEN_ROWS = 1000
LAST = 2**63 - 1
"""Above every id of a session."""


class Session(NamedTuple):
    """A person's session. ``csrf_token`` goes into every form; ``name`` is the person's, or says which key it is."""

    session_id: int
    actor: Actor
    scopes: tuple[str, ...]
    csrf_token: str
    name: str
    expires_at: datetime


class ListedSession(NamedTuple):
    """A session as an admin sees it. ``actor`` is as in the audit log; ``issuer`` is None for a key's session."""

    session_id: int
    actor: str
    name: str
    issuer: str | None
    scopes: tuple[str, ...]
    opened_at: datetime
    last_seen_at: datetime
    expires_at: datetime


@dataclass
class _Kept:
    """A session in memory: its row, when that was read, and its last use, here and as recorded."""

    row: Any
    read_at: float
    used_at: float
    seen_at: datetime


class _Opener(NamedTuple):
    actor: Actor
    scopes: tuple[str, ...]
    name: str


class Sessions:
    """Opens, finds and closes sessions. One ends after ``idle_seconds`` without use, and after ``absolute_seconds`` in
    any case. ``issuer`` is the OpenID provider in use: people whom another one vouched for are signed out."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        *,
        idle_seconds: float,
        absolute_seconds: float,
        issuer: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._keys = keys
        self._idle = timedelta(seconds=idle_seconds)
        self._lifetime = timedelta(seconds=absolute_seconds)
        self._issuer = issuer
        self._clock = clock
        self._now = now
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._forgot_at = float("-inf")

    async def open_with_key(self, key: str) -> tuple[str, Session] | None:
        """A new session and its token; None for a key that is unknown, revoked or expired. Raises UnavailableError
        while keys cannot be checked."""
        digest = digest_key(key)
        if await self._keys.verify_new(digest) is None:
            return None
        return await self._open(key_digest=digest)

    async def open_with_identity(
        self, issuer: str, subject: str, name: str, scopes: tuple[str, ...], *, sign_in_digest: bytes | None = None
    ) -> tuple[str, Session]:
        """A new session of a person, and its token. Raises AuthenticationError when the sign-in with this digest has
        opened a session before."""
        user = await self._database.queries.keep_user(
            self._database.pool, issuer=issuer, subject=subject, name=name, now=self._now()
        )
        return await self._open(
            user_id=user["user_id"], issuer=issuer, name=name, scopes=list(scopes), sign_in_digest=sign_in_digest
        )

    async def find(self, token: str, *, is_active: bool = True) -> Session | None:
        """The session of a token; None when it is unknown, closed or expired, or when its key is.

        Give ``is_active`` false for a request that a page makes on its own, so that polling does not keep a session
        alive. Raises UnavailableError while its key cannot be checked.
        """
        if not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
            return None
        digest = digest_key(token)
        kept = await self._look_up(digest)
        if kept is None:
            return None
        now = self._now()
        opener = self._find_opener(kept.row)
        if opener is None or now >= kept.row["expires_at"] or now - kept.seen_at >= self._idle:
            return None
        kept.used_at = self._clock()
        if is_active:
            kept.seen_at = now
        return _to_session(token, kept.row, opener)

    async def find_end(self, token: str) -> End:
        """Why a token has no session: ask after ``find`` has found none. Raises UnavailableError as that does."""
        async with self._lookups:
            return await find_end(
                self._database, token, lambda row: self._find_opener(row, is_use=False) is not None, self._now()
            )

    async def close(self, token: str) -> None:
        """Ends the session of a token, if there is one."""
        digest = digest_key(token)
        self._kept.pop(digest, None)
        async with self._database.pool.acquire() as connection, connection.transaction():
            session_id = await self._database.queries.close_session(
                connection, session_id=None, token_digest=digest, now=self._now()
            )
            if session_id is not None:
                await record_audit(self._database, connection, "signed_out", f"session {session_id}", "closed")

    async def list_sessions(self, *, before: int = LAST, limit: int = 100) -> tuple[list[ListedSession], int | None]:
        """The live sessions that were opened before the session ``before``, newest first, and where the next page
        begins; None after the last one. Sessions whose key has ended are left out, so a page may be short."""
        rows = self._database.queries.list_sessions(
            self._database.pool,
            now=self._now(),
            idle_seconds=self._idle.total_seconds(),
            before=before,
            limit=limit + 1,
        )
        found = [(row, self._find_opener(row, is_use=False)) async for row in rows]
        following = found[limit - 1][0]["session_id"] if len(found) > limit else None
        listed = [
            ListedSession(
                row["session_id"],
                opener.actor.name,
                opener.name,
                row["issuer"],
                opener.scopes,
                row["opened_at"],
                row["last_seen_at"],
                row["expires_at"],
            )
            for row, opener in found[:limit]
            if opener is not None
        ]
        return listed, following

    async def revoke_session(self, session_id: int) -> None:
        """Ends a session; every replica refuses it within seconds. Raises NotFoundError when there is no open one."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            closed = await self._database.queries.close_session(
                connection, session_id=session_id, token_digest=None, now=self._now()
            )
            if closed is None:
                raise NotFoundError(f"There is no open session {session_id}")
            await record_audit(self._database, connection, "session_revoked", f"session {session_id}", "closed")
        self._kept = OrderedDict(
            (digest, kept) for digest, kept in self._kept.items() if kept.row["session_id"] != session_id
        )

    async def run(self) -> None:
        """Keeps the sessions in memory current, until it is cancelled."""

        async def step() -> None:
            await self.refresh()
            await self.note_uses()
            await self.forget()

        await every(REFRESH_SECONDS, step, "sessions_not_read")

    async def refresh(self) -> None:
        """Reads the sessions in memory again, and drops those that were closed or not used for a while."""
        began = self._clock()
        for digest, kept in list(self._kept.items()):
            if began - kept.used_at > KEPT_SECONDS and not _is_due(kept):
                self._kept.pop(digest, None)
        known = dict(self._kept)
        if not known:
            return
        rows = self._database.queries.find_sessions(self._database.pool, token_digests=list(known))
        found = {row["token_digest"]: row async for row in rows}
        for digest, kept in known.items():
            if digest not in found:
                self._kept.pop(digest, None)
            else:
                _update(kept, found[digest], began)

    async def note_uses(self) -> None:
        """Records when sessions were last used: in one statement for all, at most once a minute for each."""
        due = [kept for kept in self._kept.values() if _is_due(kept)]
        if due:
            await self._database.queries.note_sessions_seen(
                self._database.pool,
                session_ids=[kept.row["session_id"] for kept in due],
                seen_at=[kept.seen_at for kept in due],
            )

    async def forget(self) -> None:
        """Deletes some expired sessions, at most once a minute."""
        if self._clock() - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = self._clock()
            await self._database.queries.forget_sessions(self._database.pool, now=self._now(), rows=FORGOTTEN_ROWS)

    async def _open(
        self,
        *,
        key_digest: bytes | None = None,
        user_id: int | None = None,
        issuer: str | None = None,
        name: str | None = None,
        scopes: list[str] | None = None,
        sign_in_digest: bytes | None = None,
    ) -> tuple[str, Session]:
        token, now = secrets.token_urlsafe(TOKEN_BYTES), self._now()
        row = {"key_digest": key_digest, "user_id": user_id, "scopes": scopes, "expires_at": now + self._lifetime}
        opener = self._find_opener(row | {"issuer": issuer, "name": name})
        if opener is None:
            raise AuthenticationError("The key was revoked meanwhile")
        async with self._database.pool.acquire() as connection, connection.transaction():
            session_id = await self._database.queries.open_session(
                connection, token_digest=digest_key(token), sign_in_digest=sign_in_digest, now=now, **row
            )
            if session_id is None:
                raise AuthenticationError("This sign-in was used before: sign in again")
            await record_audit(
                self._database, connection, "signed_in", f"session {session_id}", "opened",
                actor=opener.actor, scopes=opener.scopes,
            )  # fmt: skip
        return token, _to_session(token, row | {"session_id": session_id}, opener)

    async def _look_up(self, digest: bytes) -> _Kept | None:
        """The session in memory, else from the database."""
        kept = self._find_kept(digest)
        if kept is not None:
            return kept
        async with self._lookups:
            kept = self._find_kept(digest)  # another request may have read it meanwhile
            if kept is not None:
                return kept
            began = self._clock()
            rows = self._database.queries.find_sessions(self._database.pool, token_digests=[digest])
            found = [row async for row in rows]
        if not found:
            self._kept.pop(digest, None)
            return None
        kept = self._kept.get(digest)
        if kept is None:
            kept = _Kept(found[0], began, began, found[0]["last_seen_at"])
            self._kept[digest] = kept
        _update(kept, found[0], began)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    def _find_kept(self, digest: bytes) -> _Kept | None:
        kept = self._kept.get(digest)
        if kept is None or self._clock() - kept.read_at > TRUSTED_SECONDS:
            return None
        self._kept.move_to_end(digest)
        return kept

    def _find_opener(self, row: Any, *, is_use: bool = True) -> _Opener | None:
        """The key or the person of a session's row; None when the key, or the person's provider, is gone."""
        if row["user_id"] is not None:
            if row["issuer"] != self._issuer:
                return None
            return _Opener(Actor(f"user: {row['user_id']}"), tuple(row["scopes"]), row["name"])
        known = self._keys.verify(row["key_digest"], is_use=is_use)
        return None if known is None else _Opener(known.actor, known.scopes, describe_actor(known.actor.name))


def make_csrf_token(token: str) -> str:
    """The token of a session's forms. It follows from the session's own token, so it is stored nowhere, and it does
    not give that away."""
    return base64.urlsafe_b64encode(hmac.digest(token.encode(), b"csrf", "sha256")).decode().rstrip("=")


def _to_session(token: str, row: Any, opener: _Opener) -> Session:
    return Session(
        row["session_id"], opener.actor, opener.scopes, make_csrf_token(token), opener.name, row["expires_at"]
    )


def _update(kept: _Kept, row: Any, read_at: float) -> None:
    kept.row, kept.read_at = row, read_at
    kept.seen_at = max(kept.seen_at, row["last_seen_at"])


def _is_due(kept: _Kept) -> bool:
    """Whether its last use is to be recorded."""
    return bool(kept.seen_at - kept.row["last_seen_at"] >= NOTED)
