"""Events that cannot be read, in quarantine."""

import hashlib

from service.store.database import Database


async def quarantine(database: Database, body: bytes) -> int:
    """Puts a body into quarantine, as a version of the service would have done that could not read it yet."""
    quarantine_id: int = await database.pool.fetchval(
        """
        INSERT INTO quarantine (target, reason, detail, digest, body, received_at, last_received_at)
        VALUES ('default', 'not_json', 'body', $1, $2, '2026-03-16T10:32:00Z', '2026-03-16T10:32:00Z')
        RETURNING quarantine_id
        """,
        hashlib.sha256(body).digest(),
        body,
    )
    return quarantine_id
