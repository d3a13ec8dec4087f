"""API keys: 256 random bits, shown once, stored only as their SHA-256.

A plain digest is enough. Slow, salted hashes make guessing expensive where people choose the secret; one of 2^256 keys
cannot be guessed at any cost. A digest takes a microsecond, so a flood of wrong keys causes no load.
"""

import hashlib
import re
import secrets
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg

from service.access.audit import record_audit
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.store.database import Database

PREFIX = "outcomes_"
"""Recognisable, so that a scanner for leaked secrets finds a key in a repository or a log."""
RANDOM_BYTES = 32
HINT_CHARACTERS = len(PREFIX) + 4
MAX_LIVE_KEYS = 1000
"""Every replica holds all of them in memory."""
LISTED = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@/-]{0,79}")
_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class CreatedKey(NamedTuple):
    """A new key: its row in the table, and the key itself, which cannot be shown again."""

    row: Any
    key: str


def digest_key(key: str) -> bytes:
    """The SHA-256 of a key: all that is stored of it."""
    return hashlib.sha256(key.encode()).digest()


def parse_lifetime(text: str) -> timedelta:
    """``90d``, ``12h`` or ``4w``; raises InvalidRequestError for anything else."""
    match = _LIFETIME.fullmatch(text.strip())
    if match is None:
        raise InvalidRequestError("--expires-in takes a number with h, d or w, such as 90d")
    return int(match[1]) * _UNITS[match[2]]


class Keys:
    """Makes, lists and revokes keys. Each change is in the audit log, in the same commit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, scopes: tuple[str, ...], lifetime: timedelta | None) -> CreatedKey:
        """A new key. Raises InvalidRequestError for an unusable name, ConflictError when the name is taken or there
        are too many keys."""
        if not _NAME.fullmatch(name):
            raise InvalidRequestError("name: takes 1 to 80 letters, digits, spaces and . _ @ / -")
        if name.isdecimal():
            raise InvalidRequestError("name: digits alone would be taken for an id; add a letter")
        queries, key = self._database.queries, PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await queries.lock_keys(connection)
            if await queries.count_live_keys(connection) >= MAX_LIVE_KEYS:
                raise ConflictError(f"There are already {MAX_LIVE_KEYS} keys: revoke unused ones")
            await queries.free_key_name(connection, name=name)
            try:
                row = await queries.insert_key(
                    connection,
                    name=name,
                    digest=digest_key(key),
                    hint=key[:HINT_CHARACTERS],
                    scopes=sorted(set(scopes)),
                    lifetime_seconds=lifetime.total_seconds() if lifetime else None,
                )
            except asyncpg.UniqueViolationError as error:
                raise ConflictError(f"There is already a key {name!r}: revoke it, or choose another name") from error
            await record_audit(
                self._database, connection, "key_created", f"key {row['key_id']}", "created",
                scopes=row["scopes"],
            )  # fmt: skip
        return CreatedKey(row, key)

    async def list(self) -> list[Any]:
        """All keys, newest first, without anything that grants access."""
        return [row async for row in self._database.queries.list_keys(self._database.pool, limit=LISTED)]

    async def revoke(self, name_or_id: str) -> Any:
        """Revokes a key; it is refused everywhere within seconds. Raises NotFoundError when there is no live key of
        that name or id."""
        is_id = name_or_id.isascii() and name_or_id.isdecimal() and len(name_or_id) <= 18
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await self._database.queries.revoke_key(
                connection, name=None if is_id else name_or_id, key_id=int(name_or_id) if is_id else None
            )
            if row is None:
                raise NotFoundError(f"There is no key {name_or_id!r} to revoke: see outcomes keys list")
            await record_audit(self._database, connection, "key_revoked", f"key {row['key_id']}", "revoked")
        return row
