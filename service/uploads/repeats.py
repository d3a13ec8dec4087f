"""Why an upload is refused that would call people again who are being called already, or may be."""

import asyncpg

from service.errors import DuplicateRequestError
from service.store.database import Connection, Database


async def explain_repeat(
    database: Database, connection: Connection | asyncpg.Pool, batch_key: int
) -> DuplicateRequestError:
    """The refusal of an upload that repeats upload ``batch_key`` (see find_earlier_upload)."""
    upload = await database.queries.get_upload(connection, batch_key=batch_key)
    state = upload["state"] if upload else "gone"
    batch_id = upload["batch_id"] if upload else None
    name = f"upload {batch_key}, {state}" + (f", batch {batch_id}" if batch_id else "")
    if state == "unknown":
        why = (
            f"An upload of this agent with the same name or the same people may have been sent ({name}), and its "
            f"people may be being called: find out what became of it first (GET /v1/uploads/{batch_key})"
        )
    else:
        why = (
            f"The same file was uploaded for this agent within 24 hours ({name}): these people are being called already"
        )
    return DuplicateRequestError(
        f"{why}. To call them again, send force=true",
        details={"upload_id": batch_key, "state": state, "batch_id": batch_id},
    )
