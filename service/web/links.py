"""OpenAPI links: which calls take the ids that an answer holds. They follow from what each answer ``finds``."""

import re
from typing import Any

from service.web.operations import Answer, Operation

_PLACES = re.compile(r"{(\w+)}")


def list_links(
    operation: Operation, answer: Answer, operations: list[Operation], names: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """The links of an answer, by the names of the operations that they lead to: those whose path takes nothing but what
    the answer finds, at least one thing of it, and what stood in the path of the call itself."""
    found = {name: _to_expression(place) for name, place in answer.finds}
    asked = {name: f"$request.path.{name}" for name in _PLACES.findall(operation.path)}
    links = {}
    for target in operations:
        taken = _PLACES.findall(target.path)
        if target is not operation and set(taken) & set(found) and set(taken) <= set(found) | set(asked):
            name = names[target.method, target.path]
            links[name] = {
                "operationId": name,
                "parameters": {each: (asked | found)[each] for each in taken},
                "description": f"`{target.method} {target.path}` of what was answered",
            }
    return links


def _to_expression(place: str) -> str:
    """Where it stands in the answer, such as ``data/0/id``; or a runtime expression of OpenAPI, as it is."""
    return place if place.startswith("$") else f"$response.body#/{place}"
