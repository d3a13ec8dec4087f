"""Reveals people: a click of somebody who may see them, and a line in the audit log for each."""

from typing import Any

from service.console.visit import Visit
from service.errors import NotFoundError


async def reveal_person(visit: Visit, batch_id: object, recipient: object) -> dict[str, Any]:
    """The phone and the parameters of a recipient; nothing where they are gone. The API records the look."""
    try:
        found = await visit.read(
            "GET /v1/batch-calls/{batch_id}/recipients/{recipient}/person", batch_id=batch_id, recipient=recipient
        )
    except NotFoundError:
        return {}
    return {"phone": found["data"]["phone"], "parameters": found["data"]["parameters"]}
