"""Periods: ``from`` and ``to`` mean the same in every operation that takes them."""

from typing import Any

import httpx

from tests.web.test_openapi import list_operations, read_document

LATER, LATER_STILL = "9000-01-01", "9000-01-31"


def has_period(operation: dict[str, Any]) -> bool:
    return {"from", "to"} <= {parameter["name"] for parameter in operation.get("parameters", [])}


async def test_a_period_that_begins_in_the_future_is_refused_everywhere_with_the_same_message(
    service: httpx.AsyncClient,
) -> None:
    paths = [path for _, path, each in list_operations(await read_document(service)) if has_period(each)]
    assert {"/v1/outcomes", "/v1/exports/batches.{format}", "/v1/exports/recipients.{format}"} <= set(paths)
    for path in paths:
        for params in ({"from": LATER}, {"from": LATER, "to": LATER_STILL}, {"from": f"{LATER}T00:00:00Z"}):
            answer = await service.get(path.format(format="csv"), params=params)
            assert answer.status_code == 400, path
            assert answer.json()["error"]["message"] == "from: is in the future; give an earlier day or time"
        today = (await service.get("/v1/outcomes")).json()["as_of"][:10]
        assert (await service.get(path.format(format="csv"), params={"from": today})).status_code == 200, path
