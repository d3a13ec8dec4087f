"""The audit log. Each line is written in the transaction of the action it records, so neither exists without the other.
A statement that takes the ingest lock writes its line itself, because that lock is never held over a round trip. No
line names a person: subjects are ids, details are numbers and words.
"""

import json
from typing import Any

from asyncpg import Pool

from service.store.database import Connection, Database
from service.telemetry.context import Actor, current_actor, current_request_id


async def record_audit(
    database: Database, connection: Connection | Pool, action: str, subject: str, outcome: str,
    *, actor: Actor | None = None, **details: Any,
) -> None:  # fmt: skip
    """Records that ``action`` was done to ``subject`` (such as ``upload 7``), and its outcome in words.

    ``actor`` defaults to the actor of the current task; give it for work that another one began.
    """
    actor = actor or current_actor()
    await database.queries.record_audit(
        connection,
        actor=actor.name,
        key_id=actor.key_id,
        request_id=current_request_id(),
        action=action,
        subject=subject,
        outcome=outcome,
        details=json.dumps(details),
    )
