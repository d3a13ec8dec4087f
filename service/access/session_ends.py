"""Why a session has ended, for the person whose browser still has its token."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeAlias

from service.access.keys import digest_key
from service.store.database import Database

End: TypeAlias = Literal["closed", "key_gone", "provider_changed", "expired", "idle"]
"""``closed``: by an admin, or by signing out."""


async def find_end(database: Database, token: str, has_opener: Callable[[Any], bool], now: datetime) -> End:
    """Why the session of a token has ended; ``has_opener`` says whether its key, or its person's provider, is still
    there. One that is not known was deleted when it expired."""
    row = await database.queries.find_ended_session(database.pool, token_digest=digest_key(token))
    if row is None:
        return "expired"
    if row["closed_at"] is not None:
        return "closed"
    if not has_opener(row):
        return "provider_changed" if row["user_id"] is not None else "key_gone"
    return "expired" if now >= row["expires_at"] else "idle"
