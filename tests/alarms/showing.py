"""The alarms as the API shows them."""

from typing import Any

import httpx


async def read(service: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """The alarms by their name."""
    answer = await service.get("/v1/alarms")
    assert answer.status_code == 200
    return {alarm["name"]: alarm for alarm in answer.json()["data"]}
