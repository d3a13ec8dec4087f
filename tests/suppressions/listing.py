"""Suppresses people over HTTP, and reads whom the sandbox dialled."""

from collections import Counter
from typing import Any

import httpx

from service.sandbox import RunningSandbox


async def suppress(service: httpx.AsyncClient, *phones: str, reason: str = "asked by letter") -> dict[str, Any]:
    answer = await service.post("/v1/suppressions", json={"phones": phones, "reason": reason, "source": "crm"})
    assert answer.status_code == 200, answer.text
    added: dict[str, Any] = answer.json()["data"]
    return added


async def list_suppressions(service: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await service.get("/v1/suppressions", params=query)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


async def count_dials(sandbox: RunningSandbox) -> Counter[str]:
    """How often the sandbox dialled each phone first, in all batches, once all calls are made."""
    dials: Counter[str] = Counter()
    for batch_id in list(sandbox.sandbox.records.batches):
        await sandbox.sandbox.wait_until_done(batch_id)
        for recipient in sandbox.sandbox.recipients(batch_id):
            dials[recipient["phone"]] += sum(attempt["number"] == 1 for attempt in recipient["attempts"])
    return dials
