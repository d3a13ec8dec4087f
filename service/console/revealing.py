"""Reveals people: a click of somebody who may see them, and a line in the audit log for each.

The click leads to the same address with a handle, and only with its filters: for others it needs another click.
"""

import hashlib
from typing import Any

from starlette.responses import Response

from service.console.handles import PARAMETER
from service.console.rendering import link
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


def lead_to_people(visit: Visit) -> Response:
    """Leads from the click to the same page, which then reveals its people."""
    query = {name: value for name, value in visit.query.items() if name != PARAMETER}
    return visit.hand_on(_name_view(query), query)


def is_to_be_revealed(visit: Visit) -> bool:
    """Whether a click of this session asked for the people of this very view."""
    query = {name: value for name, value in visit.query.items() if name != PARAMETER}
    return visit.allows("people") and visit.handed == _name_view(query)


def _name_view(query: dict[str, str]) -> str:
    """A short name of the filters, however long they are."""
    return hashlib.sha256(link("", query).encode()).hexdigest()
